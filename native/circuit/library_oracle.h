// A black box in a shared library with C functions (docs/learn.md), called without Python.
#pragma once

#include "circuit/oracle.h"

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

namespace tapeout::circuit {

class LibraryOracle final : public Oracle {
public:
    // Loads the library; OracleError where it cannot be loaded or lacks a function.
    explicit LibraryOracle(const std::string& path);
    ~LibraryOracle() override;
    LibraryOracle(const LibraryOracle&) = delete;
    LibraryOracle& operator=(const LibraryOracle&) = delete;

    // What tapeout_interface() says; the widths are set once it has been parsed.
    const std::string& interface() const { return interface_; }
    void set_widths(std::size_t input_bits, std::size_t output_bits);

    std::size_t input_bits() const override { return input_bits_; }
    std::size_t output_bits() const override { return output_bits_; }
    bool concurrent() const override { return concurrent_; }
    void evaluate(const std::uint64_t* in, std::uint64_t* out, std::size_t rows) override;
    // Finds answers that are shorter or longer than the interface says; `in` holds `rows` questions.
    void check_width(const std::uint64_t* in, std::size_t rows);

private:
    void call(const std::uint64_t* in, std::uint64_t* out, std::size_t rows);
    void* symbol(const char* name, bool required);

    std::string path_;
    std::string interface_;
    void* handle_ = nullptr;
    int (*evaluate_)(const std::uint64_t*, std::uint64_t*, std::size_t) = nullptr;
    const char* (*error_)() = nullptr;
    std::size_t input_bits_ = 0;
    std::size_t output_bits_ = 0;
    bool concurrent_ = false;
    std::mutex one_; // held while a library is asked that allows one thread only
};

} // namespace tapeout::circuit
