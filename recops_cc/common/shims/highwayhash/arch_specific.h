// See farmhash.h: a header that the wheel lacks.
#pragma once
