/* A program that knows nothing of the model: opens a uverbs node by the kernel's own ABI
 * (reference/uverbs-boundary.md section 2) and stores doorbells. The first argument is the mode. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mana_model.h"

struct attribute { uint16_t id, length, flags, reserved; uint64_t data; };
struct header {
    uint16_t length, object, method, count;
    uint64_t reserved;
    uint32_t driver, reserved2;
    struct attribute attributes[2];
};

static volatile uint64_t *page;
static int node;

static void fail(const char *what) { perror(what); exit(9); }

static void open_device(void)
{
    uint32_t vectors;
    uint64_t support;
    struct header get = { 24 + 32, 0, 3, 2, 0, 20, 0,
        { { 0, 4, 0, 0, (uintptr_t)&vectors }, { 1, 8, 0, 0, (uintptr_t)&support } } };
    node = open("/dev/infiniband/uverbs0", O_RDWR | O_CLOEXEC);
    if (node < 0) fail("open");
    if (ioctl(node, 0xc0181b01, &get)) fail("GET_CONTEXT");
    page = mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, node, 0);
    if (page == MAP_FAILED) fail("mmap");
}

static long stores;

static void *ring(void *id)
{
    for (long n = 0; n < stores; n++) page[0] = (uint64_t)(uintptr_t)id;
    return NULL;
}

static void ring_by(int threads)
{
    pthread_t thread[64];
    for (long n = 0; n < threads; n++) pthread_create(&thread[n], NULL, ring, (void *)(n + 1));
    for (int n = 0; n < threads; n++) pthread_join(thread[n], NULL);
}

static void print_command(const char *command)
{
    char text[8192];
    mana_model_control_t *control = (mana_model_control_t *)dlsym(RTLD_DEFAULT, "mana_model_control");
    if (!control) fail("mana_model_control");
    long length = control(command, text, sizeof text);
    printf("%ld %d\n%s", length, length < 0 ? errno : 0, text);
    fflush(stdout);
}

/* One store of each form that is emulated: the low half of the vector holds n, the high one n + 100. */
#define VECTOR(n, text) do { \
    uint64_t halves[2] __attribute__((aligned(16))) = { n, n + 100 }; \
    __asm__ volatile("movdqa (%1), %%xmm9\n\t" text " %%xmm9, (%0)" \
        :: "r"(page), "r"(halves) : "xmm9", "memory"); } while (0)
#define GENERAL(n, text) \
    __asm__ volatile(text :: "r"(page), "r"((uint64_t)(n)) : "memory")

static void store_all(void)
{
    uint64_t exchanged = 4;
    GENERAL(1, "movq %1, (%0)");
    GENERAL(2, "movnti %1, (%0)");
    GENERAL(0, "movq $3, (%0)");
    __asm__ volatile("xchgq %1, (%0)" :: "r"(page), "r"(exchanged) : "memory");
    VECTOR(5, "movq");
    VECTOR(6, "movlps");
    VECTOR(7, "movlpd");
    VECTOR(8, "movhps");
    VECTOR(9, "movhpd");
    VECTOR(10, "movups");
    VECTOR(11, "movupd");
    VECTOR(12, "movaps");
    VECTOR(13, "movapd");
    VECTOR(14, "movdqa");
    VECTOR(15, "movdqu");
    VECTOR(16, "movntps");
    VECTOR(17, "movntpd");
    VECTOR(18, "movntdq");
    if (!__builtin_cpu_supports("avx")) return;
    VECTOR(19, "vmovq");
    VECTOR(20, "vmovlps");
    VECTOR(21, "vmovhps");
    VECTOR(22, "vmovups");
    VECTOR(23, "vmovaps");
    VECTOR(24, "vmovdqa");
    VECTOR(25, "vmovdqu");
    VECTOR(26, "vmovntps");
    VECTOR(27, "vmovntdq");
    puts("avx");
}

static sigjmp_buf back;
static volatile int faults;
static volatile uintptr_t address = 8;
static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)signal; (void)context;
    if (info->si_addr != (void *)8) _exit(8);
    faults++;
    page[0] = 2; /* a doorbell out of a handler */
    siglongjmp(back, 1);
}

int main(int count, char **words)
{
    const char *mode = count > 1 ? words[1] : "";
    if (!strcmp(mode, "true")) return 0;
    open_device();
    if (!strcmp(mode, "threads")) {
        stores = atol(words[3]);
        ring_by(atoi(words[2]));
        print_command("findings");
    } else if (!strcmp(mode, "stores")) {
        store_all();
        print_command("findings");
    } else if (!strcmp(mode, "narrow")) {
        *(volatile uint32_t *)page = 1;
    } else if (!strcmp(mode, "handler")) {
        static char stack[64 * 1024];
        stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack }, old;
        struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK }, now;
        sigset_t all;
        if (sigaltstack(&alternate, NULL) || sigaltstack(NULL, &old)) fail("sigaltstack");
        if (old.ss_sp != stack) return 7;
        if (sigaction(SIGSEGV, &action, NULL) || sigaction(SIGSEGV, NULL, &now)) fail("sigaction");
        if (now.sa_sigaction != on_fault) return 6;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        page[0] = 1;
        for (int n = 0; n < 3; n++)
            if (!sigsetjmp(back, 1)) *(volatile int *)address = 1;
        page[0] = 3;
        printf("faults %d\n", faults);
        print_command("findings");
    } else if (!strcmp(mode, "fork")) {
        page[0] = 1;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            /* The child has a machine of its own. */
            open_device();
            page[0] = 2;
            print_command("findings");
            fflush(stdout);
            exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        if (status) return 5;
        page[0] = 3;
        print_command("findings");
    } else if (!strcmp(mode, "exec")) {
        page[0] = 1;
        char *arguments[] = { words[0], "threads", "1", "1", NULL };
        execv(words[0], arguments);
        fail("exec");
    } else if (!strcmp(mode, "step")) {
        mana_model_step_t *step = (mana_model_step_t *)dlsym(RTLD_DEFAULT, "mana_model_step");
        page[0] = 7;
        print_command("findings");
        printf("step %ld\n", step());
        print_command("findings");
    } else if (!strcmp(mode, "commands")) {
        for (int n = 2; n < count; n++) print_command(words[n]);
    } else if (!strcmp(mode, "cut")) {
        char text[6];
        mana_model_control_t *control = (mana_model_control_t *)dlsym(RTLD_DEFAULT, "mana_model_control");
        page[0] = 1;
        long length = control("take-findings", text, sizeof text);
        printf("%ld %s\n", length, text);
        print_command(NULL);
    } else if (!strcmp(mode, "hold")) {
        /* Stays until its input ends. */
        struct header query = { 24, 16, 0, 0, 0, 20, 0, { { 0 } } };
        puts("ready");
        fflush(stdout);
        while (getchar() != EOF) {
            query.length = 24;
            printf("%d\n", ioctl(node, 0xc0181b01, &query) ? errno : 0);
            fflush(stdout);
        }
    }
    return 0;
}
