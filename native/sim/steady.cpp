#include "sim/steady.h"
