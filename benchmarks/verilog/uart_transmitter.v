// One clock of the transmitter.

module uart_transmitter (
    input [15:0] divider, input start, input [7:0] data,
    input [15:0] count, input [3:0] bits, input [8:0] shift,
    output [15:0] count_next, output [3:0] bits_next, output [8:0] shift_next, output line, ready
);
    wire idle = bits == 0;
    wire begins = idle & start;
    wire ends = ~idle & count == 0;
    assign count_next = begins | ends ? divider : idle ? count : count - 1'b1;
    assign bits_next = begins ? 4'd10 : ends ? bits - 1'b1 : bits;
    assign shift_next = begins ? {data, 1'b0} : ends ? {1'b1, shift[8:1]} : shift;
    assign line = idle | shift[0];
    assign ready = idle;
endmodule
