/* A program that knows nothing of the model: opens a uverbs node by the kernel's own ABI
 * (reference/uverbs-boundary.md section 2) and stores doorbells. The first argument is the mode. */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
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

static uint32_t vectors;

/* The answer goes to `answer`. */
static void open_node(const char *path, volatile void *answer)
{
    uint64_t support;
    struct header get = { 24 + 32, 0, 3, 2, 0, 20, 0,
        { { 0, 4, 0, 0, (uintptr_t)answer }, { 1, 8, 0, 0, (uintptr_t)&support } } };
    node = open(path, O_RDWR | O_CLOEXEC);
    if (node < 0) fail("open");
    if (ioctl(node, 0xc0181b01, &get)) fail("GET_CONTEXT");
    page = mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, node, 0);
    if (page == MAP_FAILED) fail("mmap");
}

static void open_device(void) { open_node("/dev/infiniband/uverbs0", &vectors); }

static long stores;

static void *ring(void *id)
{
    for (long n = 0; n < stores; n++) page[0] = (uint64_t)(uintptr_t)id;
    return NULL;
}

/* With no more of the stack left than the kernel needs for a signal's frame, or less. */
static void *ring_low(void *id)
{
    pthread_attr_t attributes;
    void *base;
    size_t size;
    char here;
    if (pthread_getattr_np(pthread_self(), &attributes)) fail("pthread_getattr_np");
    pthread_attr_getstack(&attributes, &base, &size);
    volatile char *used = alloca(&here - (char *)base - 1024);
    used[0] = 0;
    return ring(id);
}

static void ring_by(int threads, const pthread_attr_t *attributes)
{
    void *(*start)(void *) = attributes ? ring_low : ring;
    pthread_t thread[64];
    for (long n = 0; n < threads; n++)
        if (pthread_create(&thread[n], attributes, start, (void *)(n + 1))) fail("pthread_create");
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

static volatile void *expected;
static void on_bus(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (signal != SIGBUS || info->si_addr != expected) _exit(8);
    faults++;
    page[0] = 2;
    siglongjmp(back, 1);
}

/* A page of a file that has become shorter. */
static volatile char *lost_page(void)
{
    int file = memfd_create("short", 0);
    if (file < 0 || ftruncate(file, 4096)) fail("memfd_create");
    volatile char *lost = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (lost == MAP_FAILED || ftruncate(file, 0)) fail("mmap");
    return lost;
}

static void bus_errors(void)
{
    struct sigaction action = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO }, now;
    if (sigaction(SIGBUS, &action, NULL) || sigaction(SIGBUS, NULL, &now)) fail("sigaction");
    if (now.sa_sigaction != on_bus) _exit(6);
    expected = lost_page();
    for (int n = 0; n < 3; n++)
        if (!sigsetjmp(back, 1)) *(volatile char *)expected = 1;
    page[0] = 3;
    printf("faults %d\n", faults);
}

/* Children that run in this memory, or as another program, with nothing of this one's. */
static void spawn_children(void)
{
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO }, now;
    struct sigaction standard = { .sa_handler = SIG_DFL };
    posix_spawn_file_actions_t actions;
    char *words[] = { "/bin/true", NULL };
    int status;
    pid_t child;
    if (sigaction(SIGSEGV, &action, NULL)) fail("sigaction");
    child = vfork();
    if (child == 0) {
        sigaction(SIGSEGV, &standard, NULL);
        for (int fd = 3; fd < 64; fd++) close(fd);
        execv(words[0], words);
        _exit(127);
    }
    if (waitpid(child, &status, 0) != child || status) fail("vfork");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addclose(&actions, node);
    if (posix_spawn(&child, words[0], &actions, NULL, words, NULL)) fail("posix_spawn");
    if (waitpid(child, &status, 0) != child || status) fail("posix_spawn");
    if (sigaction(SIGSEGV, NULL, &now) || now.sa_sigaction != on_fault) _exit(6);
    page[0] = 1;
    if (!sigsetjmp(back, 1)) *(volatile int *)address = 1;
    printf("faults %d\n", faults);
}

/* libibverbs comes and goes as a plugin's library does. */
static void reopen(const char *path)
{
    for (int n = 0; n < 3; n++) {
        int devices;
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!library) { puts(dlerror()); exit(9); }
        void **(*list)(int *) = (void **(*)(int *))dlsym(library, "ibv_get_device_list");
        void (*release)(void **) = (void (*)(void **))dlsym(library, "ibv_free_device_list");
        const char *(*name)(void *) = (const char *(*)(void *))dlsym(library, "ibv_get_device_name");
        void *(*open_it)(void *) = (void *(*)(void *))dlsym(library, "ibv_open_device");
        int (*close_it)(void *) = (int (*)(void *))dlsym(library, "ibv_close_device");
        void **found = list(&devices);
        if (!found || devices < 1) fail("ibv_get_device_list");
        printf("%d %s", devices, name(found[0]));
        void *context = open_it(found[0]);
        if (!context || close_it(context)) fail("ibv_open_device");
        puts("");
        release(found);
        dlclose(library);
    }
}

/* A device that comes back by itself is to be seen in sysfs, and can be opened. */
static void reset_after_a_time(void)
{
    char path[4096];
    /* GET_CONTEXT, which needs no attribute: what lacks one is EINVAL even then. */
    struct header query = { 24, 0, 3, 0, 0, 20, 0, { { 0 } } };
    alarm(100);
    snprintf(path, sizeof path, "%s/class/infiniband_verbs/uverbs0", getenv("SYSFS_PATH"));
    if (access(path, F_OK)) fail(path);
    print_command("reset 0 after 100");
    if (!access(path, F_OK)) fail("still there");
    path[strlen(path) - 1] = '1';
    while (access(path, F_OK)) usleep(1000);
    if (ioctl(node, 0xc0181b01, &query) == 0 || errno != EIO) fail("the old context");
    open_node("/dev/infiniband/uverbs1", &vectors);
    page[0] = 1;
}

static int run_out_of_descriptors(void)
{
    struct rlimit limit = { 16, 16 };
    int opened = 0;
    if (setrlimit(RLIMIT_NOFILE, &limit)) fail("setrlimit");
    while (open("/dev/infiniband/uverbs0", O_RDWR) >= 0) opened++;
    printf("%d of 16, then %s\n", opened < 16, strerror(errno));
    page[0] = 1;
    return 0;
}

static void end_by(const char *how)
{
    page[0] = 1;
    if (!strcmp(how, "_exit")) _exit(0);
    if (!strcmp(how, "SIGKILL")) kill(getpid(), SIGKILL);
    if (!strcmp(how, "abort")) abort();
    if (!strcmp(how, "fault")) *(volatile int *)address = 1;
    exit(atoi(how));
}

int main(int count, char **words)
{
    const char *mode = count > 1 ? words[1] : "";
    if (!strcmp(mode, "true")) return 0;
    if (!strcmp(mode, "reopen")) { reopen(words[2]); return 0; }
    if (!strcmp(mode, "closed")) for (int fd = 0; fd < 3; fd++) close(fd);
    open_device();
    if (!strcmp(mode, "threads")) {
        stores = atol(words[3]);
        ring_by(atoi(words[2]), NULL);
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
    } else if (!strcmp(mode, "become")) {
        page[0] = 1;
        execvp(words[2], words + 2);
        fail("exec");
    } else if (!strcmp(mode, "end")) {
        end_by(words[2]);
    } else if (!strcmp(mode, "bus")) {
        bus_errors();
        print_command("findings");
    } else if (!strcmp(mode, "unmapped")) {
        void *gone = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(gone, 4096);
        open_node("/dev/infiniband/uverbs0", gone);
    } else if (!strcmp(mode, "shortened")) {
        open_node("/dev/infiniband/uverbs0", lost_page());
    } else if (!strcmp(mode, "small")) {
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        if (pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN)) fail("setstacksize");
        stores = 100;
        ring_by(8, &attributes);
        print_command("findings");
    } else if (!strcmp(mode, "spawn")) {
        spawn_children();
        print_command("findings");
    } else if (!strcmp(mode, "closed")) {
        /* The node has the number of standard input. */
        if (node != 0) return 4;
        page[0] = 1;
    } else if (!strcmp(mode, "limit")) {
        return run_out_of_descriptors();
    } else if (!strcmp(mode, "reset")) {
        reset_after_a_time();
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
        struct header query = { 24, 0, 3, 0, 0, 20, 0, { { 0 } } };
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
