// What a job of the exact learner finds out about its word before it learns it, and while it does: the inputs that
// matter, which of them belong together, and rows that showed something.
#pragma once

#include "circuit/additive.h"
#include "circuit/influence.h"
#include "circuit/region.h"
#include "circuit/sampler.h"

#include <vector>

namespace tapeout::circuit {

class Survey {
public:
    Survey(Question& question, const RegionTask& task);
    Survey(const Survey&) = delete; // its sampler refers to it
    Survey& operator=(const Survey&) = delete;

    // Looks at the word in fresh rows, with all that is known so far.
    void renew();
    // Takes in only what new hints show.
    void learn_more();
    // A row that showed something; it is moved into the region.
    void add_hint(const Word* row);
    // Two rows with different answers: the rows on the way between which the answer changes at one bit become hints.
    void between(const Word* from, const Word* to);

    // Rows of the region. `near`: more of them near hints and lively rows.
    void draw(Rows& rows, std::size_t count, bool near = false);
    // Fills up to a multiple of 64.
    void round_up(Rows& rows);
    // Draws such rows; what else is learned does not depend on whether they were drawn.
    Draw drawing();

    const Region& region() const { return region_; }
    const Rows& rows() const { return rows_; }
    const Rows& answers() const { return answers_; }
    const Rows& hints() const { return hints_; }
    // The rows in which most inputs matter: where a comparison hangs in the balance, and whatever else is rare.
    const Rows& lively() const { return lively_; }
    const Influence& influence() const { return influence_; }
    const std::vector<int>& support() const { return influence_.support; }
    // Inputs that belong together, as places in the support; all of it is in some cluster.
    const std::vector<std::vector<int>>& clusters() const { return clusters_; }
    // Those of more than one, as input bits.
    const std::vector<std::vector<int>>& partners() const { return partners_; }

private:
    void group();

    Question& question_;
    Region region_;
    Sampler sampler_;
    std::vector<int> candidates_; // inputs that are not fixed
    Rows rows_, answers_, hints_, lively_;
    Influence influence_;
    std::vector<std::vector<int>> clusters_, partners_;
    std::size_t surveyed_ = 0; // hints that influence_ has seen
};

} // namespace tapeout::circuit
