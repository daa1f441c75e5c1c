// One instruction: operands, one adder, one result, one write port.

module micro8 (
    input [15:0] instruction, input [7:0] pc, input carry, zero, negative, input [7:0] load_data, input [63:0] r,
    output [7:0] pc_next, output reg carry_next, zero_next, output negative_next,
    output [7:0] address, store_data, output load, store, halt, output [63:0] r_next
);
    wire [3:0] kind = instruction[15:12];
    wire [2:0] d = instruction[11:9], s = instruction[8:6];
    wire [7:0] k = instruction[7:0];
    // Read ports: AND and OR behind decoders.
    reg [7:0] value, source;
    integer index;
    always @* begin
        value = 0;
        source = 0;
        for (index = 0; index < 8; index = index + 1) begin
            value = value | (r[8*index +: 8] & {8{d == index}});
            source = source | (r[8*index +: 8] & {8{s == index}});
        end
    end

    wire is_alu = ~kind[3];
    assign load = kind == 8;
    assign store = kind == 9;
    wire branches = kind == 10, jumps = kind == 11, calls = kind == 12, returns = kind == 13, bits = kind == 14;
    assign halt = kind == 15;

    // The operation of rows 1 to 7 as one of row 0.
    reg [3:0] fn;
    always @*
        case (kind[2:0])
            0: fn = instruction[5:2];
            1: fn = 0;
            2: fn = 2;
            3: fn = 4;
            4: fn = 5;
            5: fn = 6;
            6: fn = 7;
            7: fn = 8;
        endcase
    wire [7:0] b = kind[2:0] == 0 ? source : k;

    // One adder: a + b, a - b, and 0 - b.
    wire negates = fn == 14;
    wire subtracts = fn[1] | fn[3];  // 2, 3, 8 and 14, where the adder is looked at
    wire [7:0] left = negates ? 8'd0 : value;
    wire [7:0] right = b ^ {8{subtracts}};
    wire borrow_or_carry = carry & fn[0];
    wire [7:0] total;
    wire out;
    assign {out, total} = {1'b0, left} + {1'b0, right} + (borrow_or_carry ^ subtracts);

    reg [7:0] result;
    always @*
        case (fn)
            4: result = value & b;
            5: result = value | b;
            6: result = value ^ b;
            7: result = b;
            9: result = {b[6:0], 1'b0};
            10: result = {1'b0, b[7:1]};
            11: result = {b[7], b[7:1]};
            12: result = {carry, b[7:1]};
            13: result = {b[3:0], b[7:4]};
            15: result = ~b;
            default: result = total;
        endcase

    wire [7:0] mask = 8'd1 << s;
    wire [1:0] action = instruction[5:4];
    wire tests = bits & action == 0;
    wire flagged = is_alu & fn != 7;
    assign negative_next = flagged ? result[7] : negative;
    always @* begin
        zero_next = zero;
        if (flagged) zero_next = result == 0;
        if (tests) zero_next = (value & mask) == 0;
        carry_next = carry;
        if (is_alu)
            case (fn)
                0, 1, 2, 3, 8, 14: carry_next = out ^ subtracts;
                9: carry_next = b[7];
                10, 11, 12: carry_next = b[0];
                default: carry_next = carry;
            endcase
    end

    wire accesses = load | store;
    wire [7:0] at = source + {{2{instruction[5]}}, instruction[5:0]};
    assign address = at & {8{accesses}};
    assign store_data = value & {8{store}};

    wire [7:0] following = pc + 1'b1;
    wire flag = d[2:1] == 0 ? 1'b1 : d[2:1] == 1 ? zero : d[2:1] == 2 ? carry : negative;
    wire taken = branches & (flag ^ d[0]);
    assign pc_next = jumps | calls ? k : returns ? source : halt ? pc : following + (k & {8{taken}});

    // Clear, set and toggle: the bit out, then in where it is to be.
    wire [7:0] changed = (value & ~(mask & {8{action[0] | action[1]}})) | (mask & {8{action[1]}} & ~(value & {8{action[0]}}));
    wire [7:0] written = is_alu ? result : load ? load_data : calls ? following : changed;
    wire writes = is_alu & fn != 8 | load | calls | bits;
    wire [2:0] target = d | {3{calls}};
    genvar i;
    generate
        for (i = 0; i < 8; i = i + 1) begin : registers
            assign r_next[8*i +: 8] = writes & target == i ? written : r[8*i +: 8];
        end
    endgenerate
endmodule
