#include "circuit/check.h"

#include <algorithm>

namespace tapeout::circuit {

Mismatches check_region(Oracle& oracle, Oracle& circuit, const std::vector<Span>& words, const Region& region,
                        const Rows& hints, const std::vector<Focus>& focuses, Word seed, std::size_t rows,
                        std::size_t most) {
    constexpr std::size_t kBatch = 4096;
    const std::size_t in = row_words(oracle.input_bits()), out = row_words(oracle.output_bits());
    Mismatches result{Rows(in, 0), Rows(out, 0)};
    Sampler sampler(words, in, region, seed);
    sampler.set_hints(&hints);
    Rows asked(in, kBatch), expected(out, kBatch), got(out, kBatch);
    std::vector<Word> difference(out);
    for (std::size_t done = 0; done < rows && result.rows.size() < most; done += kBatch) {
        if (!focuses.empty())
            sampler.set_focus(focuses[done / kBatch % focuses.size()]);
        sampler.fill(asked);
        oracle.evaluate(asked.data(), expected.data(), kBatch);
        circuit.evaluate(asked.data(), got.data(), kBatch);
        for (std::size_t row = 0; row < kBatch; ++row) {
            Word any = 0;
            for (std::size_t w = 0; w < out; ++w)
                any |= difference[w] = expected[row][w] ^ got[row][w];
            if (!any)
                continue;
            ++result.wrong;
            if (result.rows.size() < most) {
                result.rows.push(asked[row]);
                result.outputs.push(difference.data());
            }
        }
    }
    return result;
}

} // namespace tapeout::circuit
