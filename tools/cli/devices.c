/* tools/cli/devices.c -- a line for each device. */
#include "tools/cli/devices.h"

#include "kernels/device.h"
#include "tools/cli/exit_code.h"

static void print_gpus(FILE *out, FILE *why_none)
{
    dev_gpu gpu[DEVICES_MAX];
    refine_error err = { 0 };
    const int n = dev_list_gpus(gpu, DEVICES_MAX, &err);

    for (int i = 0; i < n && i < DEVICES_MAX; i++)
        fprintf(out, "cuda:%-3d %s, %.1f GiB, compute capability %d.%d\n", i, gpu[i].name,
                (double)gpu[i].total / (double)(1 << 30), gpu[i].major, gpu[i].minor);
    if (n == 0)
        fprintf(why_none, "no GPU: %s\n", err.text);
}

int devices_print(FILE *out, FILE *why_none)
{
    const dev_options o = { .compute = DT_F32 };
    refine_error err = { 0 };

    print_gpus(out, why_none);
    dev *cpu = dev_open_cpu(&o, &err);
    if (!cpu) {
        fprintf(why_none, "%s\n", err.text);
        return EXIT_FAILED;
    }
    fprintf(out, "cpu      %s, %d threads, %s\n", dev_model(cpu), dev_threads(cpu),
            dev_cpu_best() == DT_BF16 ? "bf16 or f32" : "f32");
    dev_close(cpu);
    return EXIT_DONE;
}
