// Barrel shifters: one level of multiplexers for each bit of the amount.

module shift_left #(parameter W = 32) (input [W-1:0] a, input [$clog2(W)-1:0] amount, output [W-1:0] result);
    assign result = a << amount;
endmodule

module shift_right #(parameter W = 32) (input [W-1:0] a, input [$clog2(W)-1:0] amount, output [W-1:0] result);
    assign result = a >> amount;
endmodule

module shift_arithmetic #(parameter W = 32) (input signed [W-1:0] a, input [$clog2(W)-1:0] amount, output [W-1:0] result);
    assign result = a >>> amount;
endmodule

module rotate #(parameter W = 32) (input [W-1:0] a, input [$clog2(W)-1:0] amount, output [W-1:0] result);
    localparam N = $clog2(W);
    wire [W-1:0] stage [0:N];
    assign stage[0] = a;
    genvar i;
    generate
        for (i = 0; i < N; i = i + 1) begin : level
            assign stage[i+1] = amount[i] ? {stage[i][W-1-(1<<i):0], stage[i][W-1:W-(1<<i)]} : stage[i];
        end
    endgenerate
    assign result = stage[N];
endmodule

module shifts #(parameter W = 32) (input [W-1:0] a, input [$clog2(W)-1:0] amount, output [W-1:0] sll, srl, sra);
    assign sll = a << amount;
    assign srl = a >> amount;
    // The sign fills what the logical shift left free.
    assign sra = srl | ({W{a[W-1]}} & ~({W{1'b1}} >> amount));
endmodule
