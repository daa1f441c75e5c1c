// CRC, S-box, Gray code, parity.

module crc32_step (input [31:0] crc, input [7:0] byte, output [31:0] crc_next);
    reg [31:0] work;
    integer i;
    always @* begin
        work = crc ^ byte;
        for (i = 0; i < 8; i = i + 1) work = (work >> 1) ^ ({32{work[0]}} & 32'hEDB88320);
    end
    assign crc_next = work;
endmodule

module gray_encode #(parameter W = 32) (input [W-1:0] binary, output [W-1:0] gray);
    assign gray = binary ^ (binary >> 1);
endmodule

module gray_decode #(parameter W = 32) (input [W-1:0] gray, output [W-1:0] binary);
    genvar i;
    generate
        for (i = 0; i < W; i = i + 1) begin : bits
            assign binary[i] = i == W - 1 ? gray[i] : binary[i+1] ^ gray[i];
        end
    endgenerate
endmodule

module parity #(parameter W = 32) (input [W-1:0] a, output odd);
    assign odd = ^a;
endmodule
