// Multiplexers and encoders.

module multiplexer #(parameter W = 32) (input [3:0] select, input [16*W-1:0] word, output reg [W-1:0] chosen);
    // AND and OR behind one decoder: 31 gates a bit, a tree of multiplexers has 45.
    integer i;
    always @* begin
        chosen = 0;
        for (i = 0; i < 16; i = i + 1) chosen = chosen | (word[i*W +: W] & {W{select == i}});
    end
endmodule

module priority_encoder #(parameter W = 32) (input [W-1:0] request, output [$clog2(W)-1:0] index, output valid);
    // W is a power of two: at each level the upper half, where it has a request.
    localparam N = $clog2(W);
    generate
        if (N == 1) begin : leaf
            assign index = request[1];
            assign valid = |request;
        end else begin : halves
            wire [N-2:0] low, high;
            wire low_valid, high_valid;
            priority_encoder #(.W(W/2)) encode_low (.request(request[W/2-1:0]), .index(low), .valid(low_valid));
            priority_encoder #(.W(W/2)) encode_high (.request(request[W-1:W/2]), .index(high), .valid(high_valid));
            assign index = {high_valid, high_valid ? high : low};
            assign valid = high_valid | low_valid;
        end
    endgenerate
endmodule
