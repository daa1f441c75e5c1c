// For yosys's techmap: carries one after the other, instead of its parallel
// prefixes, which are faster and larger. The number in the name puts it before those.

(* techmap_celltype = "$lcu" *)
module _80_ripple_lcu (P, G, CI, CO);
    parameter WIDTH = 2;
    (* force_downto *) input [WIDTH-1:0] P, G;
    input CI;
    (* force_downto *) output [WIDTH-1:0] CO;
    wire [WIDTH:0] carry = {CO, CI};
    assign CO = G | (P & carry[WIDTH-1:0]);
endmodule
