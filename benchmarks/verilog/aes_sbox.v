// The S-box by inversion in the tower GF(((2^2)^2)^2): w^2 = w + 1, z^2 = z + (w + 1), y^2 = y + zw. The maps into the tower and
// back (the latter with the affine map of FIPS 197) were chosen for few ones among all roots of the field polynomial.

module times2 (input [1:0] a, b, output [1:0] product);
    wire high = a[1] & b[1], low = a[0] & b[0], both = (a[1] ^ a[0]) & (b[1] ^ b[0]);
    assign product = {both ^ low, high ^ low};
endmodule

module times4 (input [3:0] a, b, output [3:0] product);
    wire [1:0] high, low, both;
    times2 multiply_high (.a(a[3:2]), .b(b[3:2]), .product(high));
    times2 multiply_low (.a(a[1:0]), .b(b[1:0]), .product(low));
    times2 multiply_both (.a(a[3:2] ^ a[1:0]), .b(b[3:2] ^ b[1:0]), .product(both));
    assign product = {both ^ low, low ^ {high[0], high[0] ^ high[1]}};
endmodule

module inverse4 (input [3:0] a, output [3:0] inverse);
    // Of a1 z + a0: the norm is in GF(2^2), where the inverse is the square.
    wire [1:0] product;
    times2 multiply (.a(a[1:0]), .b(a[3:2] ^ a[1:0]), .product(product));
    wire [1:0] norm = product ^ {a[2] ^ a[3], a[2]};
    wire [1:0] inverted = {norm[1], norm[1] ^ norm[0]};
    times2 high (.a(a[3:2]), .b(inverted), .product(inverse[3:2]));
    times2 low (.a(a[3:2] ^ a[1:0]), .b(inverted), .product(inverse[1:0]));
endmodule

module aes_sbox (input [7:0] byte, output [7:0] substituted);
    wire [7:0] x = byte, t, y;
    assign t = {
        x[5] ^ x[7],
        x[1] ^ x[2] ^ x[3] ^ x[4] ^ x[5] ^ x[6],
        x[2] ^ x[3] ^ x[5] ^ x[7],
        x[1],
        x[1] ^ x[2] ^ x[6] ^ x[7],
        x[3] ^ x[4] ^ x[6],
        x[1] ^ x[4] ^ x[6],
        x[0] ^ x[4]
    };
    wire [3:0] high = t[7:4], low = t[3:0], product, inverted;
    times4 multiply (.a(low), .b(high ^ low), .product(product));
    wire [3:0] norm = product ^ {high[0] ^ high[2] ^ high[3], high[1] ^ high[2], high[3], high[2] ^ high[3]};
    inverse4 invert (.a(norm), .inverse(inverted));
    times4 multiply_high (.a(high), .b(inverted), .product(y[7:4]));
    times4 multiply_low (.a(high ^ low), .b(inverted), .product(y[3:0]));
    assign substituted = {
        y[2] ^ y[7],
        ~(y[4] ^ y[6]),
        ~(y[2] ^ y[3] ^ y[7]),
        y[0] ^ y[4] ^ y[5] ^ y[7],
        y[0] ^ y[2] ^ y[3],
        y[0] ^ y[1] ^ y[2] ^ y[4] ^ y[6] ^ y[7],
        ~(y[0] ^ y[1] ^ y[7]),
        ~(y[0] ^ y[2] ^ y[3] ^ y[6])
    };
endmodule
