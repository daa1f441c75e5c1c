// Whole products by rows: each row is added to what the rows before it left above their lowest bit, so that every adder is
// as wide as the row. Smaller than the tree that `a * b` becomes.

module multiply #(parameter W = 32) (input [W-1:0] a, b, output [2*W-1:0] product);
    multiply_rows #(.W(W), .A_SIGNED(0), .B_SIGNED(0)) rows (.a(a), .b(b), .product(product));
endmodule

module multiply_signed #(parameter W = 32) (input [W-1:0] a, b, output [2*W-1:0] product);
    multiply_rows #(.W(W), .A_SIGNED(1), .B_SIGNED(1)) rows (.a(a), .b(b), .product(product));
endmodule

module multiply_mixed #(parameter W = 32) (input [W-1:0] a, b, output [2*W-1:0] product);
    multiply_rows #(.W(W), .A_SIGNED(1), .B_SIGNED(0)) rows (.a(a), .b(b), .product(product));
endmodule

module multiply_rows #(parameter W = 32, A_SIGNED = 0, B_SIGNED = 0)
    (input [W-1:0] a, b, output [2*W-1:0] product);
    // A bit product with one sign bit counts negative: -x * 2**n = ~x * 2**n - 2**n. What this leaves of constants are ones at
    // W - 1 for each signed factor that stands alone, at W for two (twice W - 1), and at the top (Baugh and Wooley, 1973).
    wire [W-1:0] row [0:W-1];
    wire [W:0] sum [0:W-1];
    genvar i;
    generate
        for (i = 0; i < W; i = i + 1) begin : rows
            wire [W-1:0] plain = a & {W{b[i]}};
            if (B_SIGNED && i == W - 1)
                assign row[i] = ~plain ^ {A_SIGNED != 0, {(W-1){1'b0}}};
            else
                assign row[i] = plain ^ {A_SIGNED != 0, {(W-1){1'b0}}};
            if (i == 0) begin : first
                assign sum[i] = A_SIGNED && B_SIGNED ? {1'b1, row[0]} : {1'b0, row[0]};
            end else begin : next
                assign sum[i] = sum[i-1][W:1] + row[i];
            end
            if (i < W - 1) assign product[i] = sum[i][0];
        end
    endgenerate
    wire [W:0] top = sum[W-1];
    generate
        if (A_SIGNED && B_SIGNED) assign product[2*W-1:W-1] = {~top[W], top[W-1:0]};
        else if (A_SIGNED) assign product[2*W-1:W-1] = top + {1'b1, {(W-1){1'b0}}, 1'b1};
        else assign product[2*W-1:W-1] = top;
    endgenerate
endmodule
