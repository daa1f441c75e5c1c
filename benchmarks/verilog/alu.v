// One adder for the sums, differences and comparisons; one right shifter for all shifts.

module alu #(parameter W = 32) (
    input [3:0] op, input [W-1:0] a, b, input carry,
    output reg [W-1:0] result, output zero, negative, carry_out, overflow
);
    localparam N = $clog2(W);
    wire subtracts = op[1] | op[3];  // 2, 3, 12, 13
    wire [W-1:0] other = b ^ {W{subtracts}};
    wire taken = carry & op[0] & ~op[3];
    wire [W-1:0] total;
    wire out;
    assign {out, total} = {1'b0, a} + {1'b0, other} + (taken ^ subtracts);
    wire below = ~out;
    wire less = below ^ a[W-1] ^ b[W-1];

    // 8 left, 9 right, 10 arithmetic, 11 rotate left: a left shift is a right shift of the word reversed.
    wire [N-1:0] by = b[N-1:0];
    wire left = ~(op[0] ^ op[1]);
    wire rotates = op[0] & op[1];
    wire [W-1:0] reversed, shifted, back;
    wire fill = op[1] & ~op[0] & a[W-1];
    wire [W-1:0] word = left ? reversed : a;
    wire [W-1:0] stage [0:N];
    assign stage[0] = word;
    genvar i;
    generate
        for (i = 0; i < W; i = i + 1) begin : reverse
            assign reversed[i] = a[W-1-i];
            assign back[i] = shifted[W-1-i];
        end
        for (i = 0; i < N; i = i + 1) begin : level
            assign stage[i+1] = by[i]
                ? {rotates ? stage[i][(1<<i)-1:0] : {(1<<i){fill}}, stage[i][W-1:1<<i]} : stage[i];
        end
    endgenerate
    assign shifted = stage[N];

    always @*
        casez (op)
            4'b00??: result = total;
            4'b0100: result = a & b;
            4'b0101: result = a | b;
            4'b0110: result = a ^ b;
            4'b0111: result = ~(a | b);
            4'b10??: result = left ? back : shifted;
            4'b1100: result = less;
            4'b1101: result = below;
            4'b1110: result = b;
            default: result = ~a;
        endcase

    wire sums = op[3:2] == 0;
    assign zero = result == 0;
    assign negative = result[W-1];
    assign carry_out = sums & (out ^ op[1]);
    assign overflow = sums & (a[W-1] ~^ other[W-1]) & (a[W-1] ^ total[W-1]);
endmodule
