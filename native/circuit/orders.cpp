#include "circuit/orders.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

namespace tapeout::circuit {

std::size_t word_of(int bit, const std::vector<Span>& words) {
    std::size_t at = 0;
    while (at + 1 < words.size() && bit >= words[at].first + words[at].width)
        ++at;
    return at;
}

namespace {

struct Group {
    std::vector<int> members; // indices into support
    double peak = 0;          // largest share of rows in which it changes one output
    double rate = 0;          // share of rows in which it changes any
    int home = 0;             // the output it changes most often
    int count = 0;            // outputs changed
    int first = 0;            // lowest bit, for a stable and natural order of equals
    bool control = false;     // changes many outputs alike
    std::size_t rank = 0;     // place among the data groups: what a group's output needs comes before it
    std::size_t command = 0;  // place among the controls: what decides about others comes before them
};

// Clusters of bits of the same words are alike: rare ones show too little to be judged alone.
void agree(std::vector<Group>& groups, const Influence& influence, const std::vector<Span>& words) {
    std::map<std::set<std::size_t>, std::vector<Group*>> families;
    for (Group& group : groups) {
        std::set<std::size_t> from;
        for (const int member : group.members)
            from.insert(word_of(influence.support[static_cast<std::size_t>(member)], words));
        if (group.members.size() > 1)
            families[from].push_back(&group);
    }
    for (auto& [from, family] : families) {
        const auto controls = static_cast<std::size_t>(
            std::count_if(family.begin(), family.end(), [](const Group* group) { return group->control; }));
        if (10 * controls >= 7 * family.size() || 10 * controls <= 3 * family.size())
            for (Group* group : family)
                group->control = 2 * controls > family.size();
    }
}

std::vector<Group> make_groups(const Influence& influence, const std::vector<std::vector<int>>& clusters) {
    std::vector<Group> groups;
    for (const auto& cluster : clusters) {
        Group& group = groups.emplace_back();
        group.members = cluster;
        std::stable_sort(group.members.begin(), group.members.end(), [&](int a, int b) {
            return influence.rate[static_cast<std::size_t>(a)] > influence.rate[static_cast<std::size_t>(b)];
        });
        group.first = influence.support[static_cast<std::size_t>(*std::min_element(cluster.begin(), cluster.end()))];
        double sum = 0;
        for (const int member : cluster) {
            const auto at = static_cast<std::size_t>(member);
            const auto& strength = influence.strength[at];
            const auto top = std::max_element(strength.begin(), strength.end());
            group.rate = std::max(group.rate, influence.rate[at]);
            group.count = std::max(group.count, influence.count[at]);
            if (*top > group.peak) {
                group.peak = *top;
                group.home = static_cast<int>(top - strength.begin());
                sum = 0;
                for (const double share : strength)
                    sum += share;
            }
        }
        const double outputs = static_cast<double>(influence.strength.front().size());
        group.control = outputs > 1 && sum > std::max(2.5, 0.15 * outputs) * group.peak;
    }
    return groups;
}

// Ranks the data groups so that a group comes before those whose home outputs it changes, as far as there are no
// circles: the least significant bit of a sum first.
void rank_groups(std::vector<Group>& groups, const Influence& influence) {
    const std::size_t outputs = influence.strength.front().size();
    std::vector<std::vector<double>> effect(outputs, std::vector<double>(outputs)); // [home][output]
    for (const Group& group : groups)
        if (!group.control)
            for (const int member : group.members)
                for (std::size_t o = 0; o < outputs; ++o)
                    effect[static_cast<std::size_t>(group.home)][o] +=
                        influence.strength[static_cast<std::size_t>(member)][o];
    std::vector<bool> placed(outputs);
    std::vector<std::size_t> rank(outputs);
    for (std::size_t step = 0; step < outputs; ++step) {
        std::size_t best = outputs;
        double least = 0;
        for (std::size_t o = 0; o < outputs; ++o) {
            if (placed[o])
                continue;
            double needed = 0; // what groups not placed yet do to this output
            for (std::size_t h = 0; h < outputs; ++h)
                if (h != o && !placed[h])
                    needed += effect[h][o];
            if (best == outputs || needed < least) {
                best = o;
                least = needed;
            }
        }
        placed[best] = true;
        rank[best] = step;
    }
    for (Group& group : groups)
        group.rank = rank[static_cast<std::size_t>(group.home)];
}

void rank_controls(std::vector<Group>& groups, const std::vector<std::vector<double>>& decides) {
    const auto effect = [&](const Group& a, const Group& b) {
        double most = 0;
        for (const int x : a.members)
            for (const int y : b.members)
                most = std::max(most, decides[static_cast<std::size_t>(x)][static_cast<std::size_t>(y)]);
        return most;
    };
    const std::size_t n = groups.size();
    std::vector<std::vector<double>> above(n, std::vector<double>(n)); // how much more a decides about b than b about a
    for (std::size_t a = 0; a < n; ++a)
        for (std::size_t b = 0; b < n; ++b)
            above[a][b] = std::max(0.0, effect(groups[a], groups[b]) - effect(groups[b], groups[a]));
    std::vector<bool> placed(n);
    for (std::size_t step = 0; step < n; ++step) {
        std::size_t best = n;
        double least = 0;
        for (std::size_t b = 0; b < n; ++b) {
            if (placed[b])
                continue;
            double under = 0;
            for (std::size_t a = 0; a < n; ++a)
                if (!placed[a])
                    under += above[a][b];
            if (best == n || under < least) {
                best = b;
                least = under;
            }
        }
        placed[best] = true;
        groups[best].command = step;
    }
}

template <typename Less>
std::vector<int> flatten(std::vector<Group> groups, Less less) {
    std::stable_sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) { return a.first < b.first; });
    std::stable_sort(groups.begin(), groups.end(), less);
    std::vector<int> order;
    for (const Group& group : groups)
        order.insert(order.end(), group.members.begin(), group.members.end());
    return order;
}

} // namespace

std::vector<std::vector<int>> propose_orders(const Influence& influence, const std::vector<std::vector<int>>& clusters,
                                             const std::vector<std::vector<double>>& decides,
                                             const std::vector<Span>& words) {
    if (influence.support.empty())
        return {{}};
    std::vector<Group> groups = make_groups(influence, clusters);
    agree(groups, influence, words);
    rank_controls(groups, decides);
    rank_groups(groups, influence);
    std::vector<std::vector<int>> orders;
    const auto before = [](const Group& a, const Group& b, int by) { // of two controls
        const bool pairs = a.members.size() > 1, others = b.members.size() > 1;
        switch (by) {
        case 0:
            return a.command < b.command;
        case 1:
            return pairs != others ? others : pairs ? a.command > b.command : a.command < b.command;
        default:
            return a.peak > b.peak;
        }
    };
    for (const int by : {0, 1, 2})
        for (const bool ascending : {true, false}) // controls, then the data from either end
            orders.push_back(flatten(groups, [&](const Group& a, const Group& b) {
                if (a.control != b.control)
                    return a.control;
                if (a.control)
                    return before(a, b, by);
                if (a.rank != b.rank)
                    return (a.rank < b.rank) == ascending;
                return a.rate != b.rate && (a.rate < b.rate) == ascending;
            }));
    for (const bool ascending : {true, false}) // by bit number in the words, whatever the partners say
        for (const bool separate : {true, false}) {
            std::vector<int> order(influence.support.size());
            std::iota(order.begin(), order.end(), 0);
            std::vector<double> control(order.size());
            for (const Group& group : groups)
                for (const int member : group.members)
                    control[static_cast<std::size_t>(member)] =
                        separate && group.control && group.members.size() == 1 ? group.peak : 0;
            const auto place = [&](int member) {
                const int bit = influence.support[static_cast<std::size_t>(member)];
                return bit - words[word_of(bit, words)].first;
            };
            std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
                const double x = control[static_cast<std::size_t>(a)], y = control[static_cast<std::size_t>(b)];
                if (x != y)
                    return x > y;
                return ascending ? place(a) < place(b) : place(a) > place(b);
            });
            orders.push_back(std::move(order));
        }
    orders.push_back(flatten(groups, [](const Group& a, const Group& b) { return a.rate > b.rate; }));
    orders.push_back(flatten(groups, [](const Group& a, const Group& b) {
        return a.count != b.count ? a.count > b.count : a.rate < b.rate;
    }));
    orders.push_back(flatten(groups, [](const Group& a, const Group& b) { // data before controls
        if (a.control != b.control)
            return b.control;
        return a.control ? a.peak > b.peak : a.rank < b.rank;
    }));
    std::set<std::vector<int>> seen;
    std::erase_if(orders, [&](const auto& order) { return !seen.insert(order).second; });
    return orders;
}

} // namespace tapeout::circuit
