// Adders and comparators: one adder where one is enough.

module add #(parameter W = 32) (input [W-1:0] a, b, output [W-1:0] sum, output carry);
    assign {carry, sum} = a + b;
endmodule

module subtract #(parameter W = 32) (input [W-1:0] a, b, output [W-1:0] difference, output borrow);
    wire carry;
    assign {carry, difference} = {1'b0, a} + {1'b0, ~b} + 1'b1;
    assign borrow = ~carry;
endmodule

module compare #(parameter W = 32) (input [W-1:0] a, b, output eq, ltu, lt, geu, ge);
    // One subtraction serves both orders: they differ where the signs do.
    wire [W:0] difference = {1'b0, a} - {1'b0, b};
    assign eq = a == b;
    assign ltu = difference[W];
    assign lt = ltu ^ a[W-1] ^ b[W-1];
    assign geu = ~ltu;
    assign ge = ~lt;
endmodule

module min_max #(parameter W = 32) (input [W-1:0] a, b, output [W-1:0] minu, maxu, min, max);
    wire [W:0] difference = {1'b0, a} - {1'b0, b};
    wire below = difference[W];
    wire less = below ^ a[W-1] ^ b[W-1];
    assign minu = below ? a : b;
    assign maxu = below ? b : a;
    assign min = less ? a : b;
    assign max = less ? b : a;
endmodule

module saturating_add #(parameter W = 32) (input [W-1:0] a, b, output [W-1:0] sumu, sum);
    wire [W-1:0] total;
    wire carry;
    assign {carry, total} = a + b;
    wire overflow = (a[W-1] ~^ b[W-1]) & (a[W-1] ^ total[W-1]);
    assign sumu = total | {W{carry}};
    assign sum = overflow ? {a[W-1], {(W-1){~a[W-1]}}} : total;
endmodule

module absolute_difference #(parameter W = 32) (input [W-1:0] a, b, output [W-1:0] distance);
    // -x is ~(x - 1): with a < b, a - b - 1 inverted is b - a. One subtraction, one increment.
    wire [W:0] less_one = {1'b0, a} + {1'b0, ~b};
    wire above = less_one[W];
    assign distance = above ? less_one[W-1:0] + 1'b1 : ~less_one[W-1:0];
endmodule

module popcount #(parameter W = 32, parameter N = $clog2(W + 1)) (input [W-1:0] a, output [N-1:0] count);
    // Halves counted apart and added: adders grow with the level.
    generate
        if (W == 1) begin : leaf
            assign count = a;
        end else begin : halves
            localparam H = W / 2, G = W - H;
            wire [$clog2(H+1)-1:0] low;
            wire [$clog2(G+1)-1:0] high;
            popcount #(.W(H)) count_low (.a(a[H-1:0]), .count(low));
            popcount #(.W(G)) count_high (.a(a[W-1:H]), .count(high));
            assign count = low + high;
        end
    endgenerate
endmodule

module leading_zeros #(parameter W = 32, parameter N = $clog2(W + 1)) (input [W-1:0] a, output [N-1:0] count);
    // W is a power of two: the count of the upper half, or of the lower one with the next bit set.
    generate
        if (W == 1) begin : leaf
            assign count = ~a;
        end else begin : halves
            wire [N-2:0] low, high;
            leading_zeros #(.W(W/2)) count_low (.a(a[W/2-1:0]), .count(low));
            leading_zeros #(.W(W/2)) count_high (.a(a[W-1:W/2]), .count(high));
            wire none = high[N-2];  // the upper half has no one
            if (N == 2) begin : two
                assign count = {none & low[0], none & ~low[0]};
            end else begin : more
                assign count = {none & low[N-2], none & ~low[N-2], none ? low[N-3:0] : high[N-3:0]};
            end
        end
    endgenerate
endmodule

module binary_to_bcd #(parameter W = 8, parameter D = W == 8 ? 3 : 5) (input [W-1:0] binary, output [4*D-1:0] digits);
    // Double dabble: a digit of 5 or more gets 3 before it is doubled.
    reg [4*D-1:0] work;
    integer i, d;
    always @* begin
        work = 0;
        for (i = W - 1; i >= 0; i = i - 1) begin
            for (d = 0; d < D; d = d + 1)
                if (work[4*d +: 4] > 4) work[4*d +: 4] = work[4*d +: 4] + 4'd3;
            work = {work[4*D-2:0], binary[i]};
        end
    end
    assign digits = work;
endmodule
