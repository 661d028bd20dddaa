// Threads and the share of the work that each takes.

#pragma once

#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
inline int this_thread() { return omp_get_thread_num(); }
inline int team_size() { return omp_get_num_threads(); }
#else
inline int this_thread() { return 0; }
inline int team_size() { return 1; }
#endif

// Multiples of `grain`, the last one apart, so that tiles of rows stay whole
struct Share {
    int64_t first, end;
    Share(int64_t n, int64_t grain = 1) {
        const int64_t each = ((n + grain - 1) / grain + team_size() - 1) / team_size() * grain;
        first = this_thread() * each < n ? this_thread() * each : n;
        end = first + each < n ? first + each : n;
    }
};
