/* A libnvidia-ml.so.1 for tests: the real nvidia-ml-py runs on it as on the driver's.
 *
 * GPU 0 whole; GPU 1 cut into MIG slices (gaps between them, as on real ones); GPU 2 fell off the bus; GPU 3 knows no
 * MIG and has no memory of its own. FAKE_NVML=nodriver: as if the driver were not loaded. Handles are numbers:
 * 1 + GPU, and for slices 100 + position.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, NO_DRIVER = 9, LOST = 15 };
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned int sms, ce, dec, enc, jpeg, ofa, gi, ci; unsigned long long mb; } attributes;
static const struct { unsigned int at, gi, ci, g, c; unsigned long long mb; const char *uuid, *name; } slices[] = {
    {0, 1, 0, 3, 3, 40192, "MIG-11111111-aaaa", "NVIDIA A100-SXM4-80GB MIG 3g.40gb"},
    {2, 5, 0, 1, 1, 9728, "MIG-22222222-bbbb", "NVIDIA A100-SXM4-80GB MIG 1g.10gb+me"},
    {3, 2, 1, 3, 1, 40192, "MIG-GPU-1/2/1", "NVIDIA A100-SXM4-80GB"}, /* an old driver: the GPU's own name */
};
static const unsigned long long GPU_MB = 81920;

static long id(void *h) { return (long)h; }
static int slice(void *h) {
    for (int i = 0; i < 3; i++) if (id(h) == 100 + (long)slices[i].at) return i;
    return -1;
}
int nvmlInitWithFlags(unsigned int flags) {
    const char *how = getenv("FAKE_NVML");
    return how && !strcmp(how, "nodriver") ? NO_DRIVER : OK;
}
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : code == NO_DRIVER ? "Driver Not Loaded" : "an error"; }
int nvmlDeviceGetCount_v2(unsigned int *n) { *n = 4; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int n, void **h) {
    if (n > 3) return INVALID;
    if (n == 2) return LOST;
    *h = (void *)(long)(n + 1);
    return OK;
}
int nvmlDeviceGetMigMode(void *h, unsigned int *now, unsigned int *pending) {
    if (id(h) == 4) return UNSUPPORTED;
    *now = id(h) == 2;
    *pending = 1; /* switched on for after a reset: not yet cut */
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(void *h, unsigned int *n) { *n = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *h, unsigned int at, void **mig) {
    *mig = (void *)(long)(100 + at);
    return slice(*mig) < 0 ? NOT_FOUND : OK;
}
int nvmlDeviceGetUUID(void *h, char *out, unsigned int size) {
    if (slice(h) >= 0) snprintf(out, size, "%s", slices[slice(h)].uuid);
    else snprintf(out, size, "GPU-%ld", id(h) - 1);
    return OK;
}
int nvmlDeviceGetName(void *h, char *out, unsigned int size) {
    const char *name = id(h) == 4 ? "NVIDIA GB10" : "NVIDIA A100-SXM4-80GB";
    snprintf(out, size, "%s", slice(h) >= 0 ? slices[slice(h)].name : name);
    return OK;
}
int nvmlDeviceGetMemoryInfo(void *h, memory *m) {
    if (id(h) == 4) return UNSUPPORTED;
    m->total = (slice(h) >= 0 ? slices[slice(h)].mb : GPU_MB) << 20;
    m->free = m->total;
    m->used = 0;
    return OK;
}
int nvmlDeviceGetAttributes_v2(void *h, attributes *a) {
    if (slice(h) < 0) return INVALID;
    a->gi = slices[slice(h)].g;
    a->ci = slices[slice(h)].c;
    a->mb = slices[slice(h)].mb;
    return OK;
}
int nvmlDeviceGetMinorNumber(void *h, unsigned int *n) { *n = (unsigned int)(4 - id(h)); return OK; } /* not NVML's order */
int nvmlDeviceGetGpuInstanceId(void *h, unsigned int *n) { *n = slices[slice(h)].gi; return slice(h) < 0 ? NOT_FOUND : OK; }
int nvmlDeviceGetComputeInstanceId(void *h, unsigned int *n) { *n = slices[slice(h)].ci; return slice(h) < 0 ? NOT_FOUND : OK; }

/* What goes on: GPU 0 is busy with process FAKE_PID; of slices no utilisation is told, the first holds it too. */
typedef struct { unsigned int gpu, memory; } rates;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gi, ci; } process;
int nvmlDeviceGetUtilizationRates(void *h, rates *r) {
    if (slice(h) >= 0 || id(h) == 2) return UNSUPPORTED;
    r->gpu = id(h) == 1 ? 87 : 0;
    r->memory = 0;
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *h, unsigned int *n, process *found) {
    const char *pid = getenv("FAKE_PID");
    if (!pid || (id(h) != 1 && slice(h) != 0)) { *n = 0; return OK; }
    if (!found) { *n = 1; return 7; } /* insufficient size */
    *n = 1;
    found[0] = (process){(unsigned int)atoi(pid), 1ull << 30, 0, 0};
    return OK;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *h, unsigned int *n, process *found) { return UNSUPPORTED; }
