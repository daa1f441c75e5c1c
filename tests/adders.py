"""An adder unlike the one of ``bitvector``: circuits built with it compute the same with other gates."""

from tapeout.circuit.bitvector import Bits, concat


def prefix_add(a: Bits, b: Bits, carry: Bits) -> tuple[Bits, Bits]:
    """``a + b + carry`` by Kogge and Stone's parallel prefixes (IEEE Transactions on Computers C-22, 1973)."""
    either = list(a ^ b)
    generate, propagate = list(a & b), list(either)
    if generate:
        generate[0] |= propagate[0] & carry
    distance = 1
    while distance < a.width:
        pairs = [(place, place - distance) for place in range(distance, a.width)]
        generates = {high: generate[high] | propagate[high] & generate[low] for high, low in pairs}
        propagates = {high: propagate[high] & propagate[low] for high, low in pairs}
        generate = [generates.get(place, bit) for place, bit in enumerate(generate)]
        propagate = [propagates.get(place, bit) for place, bit in enumerate(propagate)]
        distance *= 2
    carries = [carry, *generate]
    return concat(*reversed([bit ^ before for bit, before in zip(either, carries, strict=False)])), carries[-1]
