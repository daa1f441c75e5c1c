// Words as sums: what single inputs, or products of them, add to an output word, and the gates that add it up.
//
// A word of n bits is an element of one of two groups: the integers modulo 2^n, or vectors of n bits under exclusive
// or.
#pragma once

#include "circuit/circuit.h"

#include <cstddef>
#include <unordered_map>
#include <vector>

namespace tapeout::circuit {

__extension__ typedef unsigned __int128 Value; // an output word
constexpr std::size_t kValueBits = 128;

enum class Group { sum, exclusive };

// Group operations on words of `width` bits.
struct Arithmetic {
    Group group = Group::sum;
    std::size_t width = 0;
    Value all() const { return width >= kValueBits ? ~Value{0} : (Value{1} << width) - 1; }
    Value add(Value a, Value b) const { return group == Group::sum ? (a + b) & all() : a ^ b; }
    Value subtract(Value a, Value b) const { return group == Group::sum ? (a - b) & all() : a ^ b; }
};

// A constant, and a weight for each literal that is 1.
class Form {
public:
    struct Term {
        Lit literal;
        Value weight;
        int row;    // terms of one row came from one input: they are added side by side
        bool whole; // a bit of a word that is kept together; else the literal is positive, and in no other term
    };
    explicit Form(Arithmetic arithmetic) : arithmetic_(arithmetic) {}
    // The value of a word of literals, the least significant bit first. `whole`: kept together, a row to be added;
    // else equal bits are joined: copies of a sign become one negative weight.
    Form(Arithmetic arithmetic, const std::vector<Lit>& word, bool whole);

    const Arithmetic& arithmetic() const { return arithmetic_; }
    const std::vector<Term>& terms() const { return terms_; }
    Value constant() const { return constant_; }
    void add_constant(Value value) { constant_ = arithmetic_.add(constant_, value); }
    void add(Lit literal, Value weight, int row, bool whole = false);
    // Adds `factor` times the form where `literal` is 1; under exclusive or `factor` is a power of two: a shift.
    void add_product(Strash& gates, const Form& form, Value factor, Lit literal, int row);
    // Bits to add up, and columns they stand in.
    std::size_t digits() const;
    std::size_t columns() const;

private:
    Value scaled(Value weight, Value factor) const;
    Arithmetic arithmetic_;
    Value constant_ = 0;
    std::vector<Term> terms_;
    std::unordered_map<Lit, std::size_t> places_;
};

// The word of a form. `shared`: first a sum of positive rows, as a form without negative weights has them, and what is
// negative subtracted behind, so that words which differ in signs only share the sum. `trace` stays empty under
// exclusive or, and where a constant is added.
std::vector<Lit> emit(Strash& gates, const Form& form, bool shared, SumTrace* trace = nullptr);

} // namespace tapeout::circuit
