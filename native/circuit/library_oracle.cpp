#include "circuit/library_oracle.h"

#include "circuit/oracle_error.h"

#include <algorithm>
#include <dlfcn.h>
#include <vector>

namespace tapeout::circuit {

LibraryOracle::LibraryOracle(const std::string& path) : path_(path) {
    handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle_) {
        const char* reason = dlerror();
        throw OracleError(std::string("cannot load the library: ") + (reason ? reason : "no reason given"), path,
                          "give a shared library built for this machine");
    }
    try {
        const auto interface_function = reinterpret_cast<const char* (*)()>(symbol("tapeout_interface", true));
        evaluate_ = reinterpret_cast<decltype(evaluate_)>(symbol("tapeout_evaluate", true));
        error_ = reinterpret_cast<decltype(error_)>(symbol("tapeout_error", false));
        const auto concurrent_function = reinterpret_cast<int (*)()>(symbol("tapeout_concurrent", false));
        const char* text = interface_function();
        if (!text)
            throw OracleError("tapeout_interface() returned no text", path_,
                              "return text such as \"a:8 b:8 -> sum:9\"");
        interface_ = text;
        concurrent_ = concurrent_function && concurrent_function() != 0;
    } catch (...) {
        dlclose(handle_);
        throw;
    }
}

LibraryOracle::~LibraryOracle() {
    dlclose(handle_);
}

void* LibraryOracle::symbol(const char* name, bool required) {
    void* found = dlsym(handle_, name);
    if (!found && required)
        throw OracleError(std::string("the library has no function ") + name, path_,
                          "export it with C linkage, see docs/learn.md");
    return found;
}

void LibraryOracle::set_widths(std::size_t input_bits, std::size_t output_bits) {
    input_bits_ = input_bits;
    output_bits_ = output_bits;
}

void LibraryOracle::call(const std::uint64_t* in, std::uint64_t* out, std::size_t rows) {
    std::unique_lock<std::mutex> lock(one_, std::defer_lock);
    if (!concurrent_)
        lock.lock();
    const int code = evaluate_(in, out, rows);
    if (code == 0)
        return;
    const char* text = error_ ? error_() : nullptr;
    throw OracleError("tapeout_evaluate() returned " + std::to_string(code) + (text ? std::string(": ") + text : ""),
                      path_, "let it return 0 for every question");
}

void LibraryOracle::evaluate(const std::uint64_t* in, std::uint64_t* out, std::size_t rows) {
    call(in, out, rows);
    check_padding(out, rows, output_bits_, path_);
}

void LibraryOracle::check_width(const std::uint64_t* in, std::size_t rows) {
    constexpr std::size_t guard = 4096; // a wrong width shows within the rows of a batch
    const std::size_t words = rows * row_words(output_bits_);
    std::vector<std::uint64_t> first(words + guard, 0x5a5a'5a5a'5a5a'5a5aU);
    std::vector<std::uint64_t> second(words + guard, 0xa5a5'a5a5'a5a5'a5a5U);
    call(in, first.data(), rows);
    call(in, second.data(), rows);
    for (std::size_t i = words; i < words + guard; ++i)
        if (first[i] != 0x5a5a'5a5a'5a5a'5a5aU || second[i] != 0xa5a5'a5a5'a5a5'a5a5U)
            throw OracleError("tapeout_evaluate() writes more than " + std::to_string(row_words(output_bits_)) +
                                  " words of 64 bits a row",
                              path_, "correct the output widths of tapeout_interface()");
    for (std::size_t i = 0; i < words; ++i)
        if (first[i] == 0x5a5a'5a5a'5a5a'5a5aU && second[i] == 0xa5a5'a5a5'a5a5'a5a5U)
            throw OracleError("tapeout_evaluate() leaves words of row " + std::to_string(i / row_words(output_bits_)) +
                                  " of " + std::to_string(rows) + " unwritten",
                              path_, "write every row whole, padding as zeros");
}

} // namespace tapeout::circuit
