#include <nanobind/nanobind.h>
#include "circuit/rows.h"
namespace nb = nanobind;
using namespace tapeout::circuit;
namespace {
struct R { const uint64_t* p; uint32_t g(int at,int w){ int s=at%64; uint64_t v=p[at/64]>>s; if(s+w>64) v|=p[at/64+1]<<(64-s); return v & ((1ull<<w)-1);} };
struct W { uint64_t* p; void s(int at,int w,uint64_t v){ v&=(1ull<<w)-1; int s=at%64; p[at/64]|=v<<s; if(s+w>64) p[at/64+1]|=v>>(64-s);} };
struct Tmp : Oracle {
  size_t input_bits() const override { return 225-32-0+0; }
  size_t output_bits() const override { return 32*5+4+1+1+1+32-32+0+1; }
  bool concurrent() const override { return true; }
  void evaluate(const uint64_t* in, uint64_t* out, size_t n) override { for(size_t i=0;i<n;i++) step(in+4*i,out+3*i);}
  static void step(const uint64_t* in, uint64_t* out) {
    R r{in}; uint32_t ins=r.g(0,32), pc=r.g(32,32)&~3u, ld=r.g(64,32), rs=r.g(96,32), rv=r.g(128,1), a=r.g(129,32), b=r.g(161,32);
    uint32_t npc=pc+4, addr=0, sd=0, sm=0, load=0, rsn=rs, rvn=rv, trap=0, rd=0, w=0;
    uint32_t op=ins&127,f3=ins>>12&7,f7=ins>>25; int32_t immI=(int32_t)ins>>20;
    auto mis=[&](uint32_t t){ if(t&3){trap=1;} else npc=t; };
    switch(op){
    case 0x37: rd=ins&~0xfffu; w=1; break;
    case 0x17: rd=pc+(ins&~0xfffu); w=1; break;
    case 0x6f: { uint32_t im=((int32_t)ins>>31<<20)|(ins&0xff000)|((ins>>20&1)<<11)|((ins>>21&0x3ff)<<1); rd=pc+4;w=1;mis(pc+im);break;}
    case 0x67: if(f3){trap=1;break;} rd=pc+4;w=1;mis((a+immI)&~1u);break;
    case 0x63: { uint32_t im=((int32_t)ins>>31<<12)|((ins>>7&1)<<11)|((ins>>25&0x3f)<<5)|((ins>>8&15)<<1); bool t; switch(f3){case 0:t=a==b;break;case 1:t=a!=b;break;case 4:t=(int)a<(int)b;break;case 5:t=(int)a>=(int)b;break;case 6:t=a<b;break;case 7:t=a>=b;break;default:trap=1;t=false;} if(!trap&&t)mis(pc+im); break;}
    case 0x03: { uint32_t ad=a+immI, m=f3&3; if(f3==3||f3>5){trap=1;break;} if((m==1&&(ad&1))||(m==2&&(ad&3))){trap=1;break;} addr=ad&~3u;load=1;w=1;uint32_t v=ld>>(8*(ad&3)); rd=f3==0?(int8_t)v:f3==1?(int16_t)v:f3==4?(uint8_t)v:f3==5?(uint16_t)v:v; break;}
    case 0x23: { uint32_t im=((int32_t)ins>>25<<5)|(ins>>7&31), ad=a+im; if(f3>2){trap=1;break;} if((f3==1&&(ad&1))||(f3==2&&(ad&3))){trap=1;break;} addr=ad&~3u; uint32_t k=f3==0?1:f3==1?3:15; sm=k<<(ad&3); uint32_t msk=f3==0?0xff:f3==1?0xffff:~0u; sd=(b&msk)<<(8*(ad&3)); break;}
    case 0x13: case 0x33: { uint32_t y=op==0x13?(uint32_t)immI:b; bool alt=false; if(op==0x33||f3==1||f3==5){ if(f7==0x20&&(f3==5||(f3==0&&op==0x33))) alt=true; else if(f7){trap=1;break;} } w=1; switch(f3){case 0:rd=alt?a-y:a+y;break;case 1:rd=a<<(y&31);break;case 2:rd=(int)a<(int)y;break;case 3:rd=a<y;break;case 4:rd=a^y;break;case 5:rd=alt?(uint32_t)((int)a>>(y&31)):a>>(y&31);break;case 6:rd=a|y;break;case 7:rd=a&y;} break;}
    case 0x0f: if(f3>1)trap=1; break;
    case 0x2f: { uint32_t f5=ins>>27; if(f3!=2){trap=1;break;} bool okk=f5<=4||f5==8||f5==12||f5==16||f5==20||f5==24||f5==28; if(f5==2&&(ins>>20&31))okk=false; if(!okk||(a&3)){trap=1;break;}
       if(f5==2){addr=a;load=1;rd=ld;w=1;rsn=a;rvn=1;break;}
       if(f5==3){w=1;rvn=0; if(rv&&rs==a){rd=0;addr=a;sm=15;sd=b;}else rd=1; break;}
       addr=a;load=1;rd=ld;w=1;sm=15; switch(f5){case 0:sd=ld+b;break;case 1:sd=b;break;case 4:sd=ld^b;break;case 8:sd=ld|b;break;case 12:sd=ld&b;break;case 16:sd=(int)ld<(int)b?ld:b;break;case 20:sd=(int)ld>(int)b?ld:b;break;case 24:sd=ld<b?ld:b;break;case 28:sd=ld>b?ld:b;break;} break;}
    default: trap=1; }
    if(trap){npc=pc;rd=0;w=0;addr=0;sd=0;sm=0;load=0;rsn=rs;rvn=rv;}
    out[0]=out[1]=out[2]=0; W o{out}; o.s(0,32,npc);o.s(32,32,addr);o.s(64,32,sd);o.s(96,4,sm);o.s(100,1,load);o.s(101,32,rsn);o.s(133,1,rvn);o.s(134,1,trap);o.s(135,32,rd);o.s(167,1,w);
  }
};
}
void bind_tmp(nb::module_& m){ nb::class_<Oracle>(m,"Oracle").def_prop_ro("input_bits",&Oracle::input_bits); nb::class_<Tmp,Oracle>(m,"Tmp").def(nb::init<>()); }
