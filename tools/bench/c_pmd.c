/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The C PMD's side of `mana bench`: drives librte_net_mana's bursts on a model that is stepped
 * between them, and tells what they cost.
 *
 * `mana bench` compiles it against an unpacked DPDK and starts it by `mana model exec
 * --doorbell=step`. Before `--` stand the EAL's arguments, behind it NAME=NUMBER for the fields of
 * `struct plan`. It prints one line of JSON when it is ready, and one for each line that it reads:
 *
 *   pass DIRECTION PACKETS    cycles a packet, measured by the time-stamp counter
 *   count DIRECTION PACKETS   the same bursts without a clock, for callgrind
 *   events DIRECTION PACKETS  the same, counted by the kernel and the processor (tools/src/bench/worker/events.rs)
 *
 * DIRECTION is tx, rx, forward or poll (of an idle port; packets are then polls). It ends with its
 * input. `tools/src/bench/worker/` is the same for the driver in Rust: what is inside a timed
 * region, how samples are made of regions and what is done between them must stay alike.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include <rte_config.h>
/* Its headers come in another package, and nothing here wants them. */
#undef RTE_USE_LIBBSD
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_version.h>

/* mana_model.h: in the library that `mana model exec` preloads. */
long mana_model_step(void) __attribute__((weak));
long mana_model_control(const char *command, char *answer, size_t size) __attribute__((weak));

#define PORT 0
#define MAX_BURST 256
#define MAX_QUEUES 64
/* Packets, or polls, of one sample at least: all that is done for several bursts at once is in it. */
#define SAMPLE 256
/* Packets of a pass that are not measured: they warm what the pass before left cold. */
#define WARM_PACKETS 4096
#define BUFFERS 8191
#define POOL_CACHE 250

static struct plan {
    unsigned burst, size, ring, segments, queues, checksum, vlan, cool, drain;
    /* The device's matter. */
    unsigned coalescing, traffic;
} plan = {.burst = 32, .size = 60, .ring = 256, .segments = 1, .queues = 1};

static struct rte_mempool *pool;
static uint8_t frame[16384];

static void fail(const char *what, int error)
{
    fprintf(stderr, "c_pmd: %s: %s\n", what, error ? rte_strerror(error < 0 ? -error : error) : "failed");
    exit(1);
}

/* Fenced as gdma::cycles::now(). */
static inline uint64_t now(void)
{
    _mm_lfence();
    uint64_t counter = __rdtsc();
    _mm_lfence();
    return counter;
}

/* What is timed. Not inlined, so that callgrind can tell them. */
__attribute__((noinline)) static uint16_t timed_tx_burst(uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
    return rte_eth_tx_burst(PORT, queue, packets, count);
}

__attribute__((noinline)) static uint16_t timed_rx_burst(uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
    return rte_eth_rx_burst(PORT, queue, packets, count);
}

__attribute__((noinline)) static uint16_t timed_forward_burst(uint16_t queue, struct rte_mbuf **packets, uint16_t count,
                                                              uint16_t *sent)
{
    uint16_t received = rte_eth_rx_burst(PORT, queue, packets, count);
    *sent = rte_eth_tx_burst(PORT, queue, packets, received);
    return received;
}

__attribute__((noinline)) static uint16_t timed_poll_burst(uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
    return rte_eth_rx_burst(PORT, queue, packets, count);
}

/* A timed region without anything in it but the call. */
__attribute__((noinline)) static uint16_t timed_nothing(uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
    __asm__ volatile("" : "+r"(queue), "+r"(packets) : : "memory");
    return count;
}

/* At the end of a count: callgrind writes down what it has when this is called. */
__attribute__((noinline)) static void section_end(void)
{
    __asm__ volatile("" : : : "memory");
}

static int smaller(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *samples, size_t count)
{
    qsort(samples, count, sizeof(*samples), smaller);
    return samples[count / 2];
}

static void drain(void)
{
    if (plan.drain)
        _mm_mfence();
}

/* Cycles of an empty region, to be taken off: in samples as those of packets are. */
static double overhead(void)
{
    double samples[16];
    struct rte_mbuf *packets[1] = {NULL};
    for (size_t i = 0; i < 16; i++) {
        uint64_t cycles = 0;
        for (size_t region = 0; region < SAMPLE; region++) {
            uint64_t start = now();
            timed_nothing(0, packets, 1);
            drain();
            cycles += now() - start;
        }
        samples[i] = (double)cycles / SAMPLE;
    }
    return median(samples, 16);
}

/* Events of this thread in user space: a group that stands still but in timed regions. */
#define L1D_READ_MISS \
    (PERF_COUNT_HW_CACHE_L1D | PERF_COUNT_HW_CACHE_OP_READ << 8 | PERF_COUNT_HW_CACHE_RESULT_MISS << 16)
#define EVENTS 5

static const struct event {
    const char *name;
    uint32_t type;
    uint64_t config;
} events[EVENTS] = {
    {"page-faults", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS},
    {"cycles", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES},
    {"instructions", PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS},
    {"branch-misses", PERF_TYPE_HARDWARE, PERF_COUNT_HW_BRANCH_MISSES},
    {"l1d-misses", PERF_TYPE_HW_CACHE, L1D_READ_MISS},
};

static struct counters {
    /* Of the group, and which event each of its members is. */
    int leader, members, member[EVENTS], fds[EVENTS];
    /* Why there are not all. */
    char missing[128];
} counters = {.leader = -1};

/* Whether there are any. */
static int open_counters(void)
{
    counters.members = 0;
    counters.leader = -1;
    counters.missing[0] = 0;
    for (int i = 0; i < EVENTS; i++) {
        struct perf_event_attr attr = {
            .type = events[i].type,
            .size = sizeof(attr),
            .config = events[i].config,
            .disabled = counters.leader < 0,
            .exclude_kernel = 1,
            .exclude_hv = 1,
            .read_format = PERF_FORMAT_GROUP,
        };
        int fd = syscall(SYS_perf_event_open, &attr, 0, -1, counters.leader, PERF_FLAG_FD_CLOEXEC);
        if (fd < 0) {
            if (!counters.missing[0])
                snprintf(counters.missing, sizeof(counters.missing), "%s: perf_event_open: %s (os error %d)",
                         events[i].name, strerror(errno), errno);
            if (counters.leader < 0)
                return 0;
            continue;
        }
        if (counters.leader < 0)
            counters.leader = fd;
        counters.fds[counters.members] = fd;
        counters.member[counters.members++] = i;
    }
    return 1;
}

/* Reads them, and closes them. */
static void close_counters(uint64_t *counts)
{
    uint64_t values[1 + EVENTS];
    if (read(counters.leader, values, sizeof(values)) < (ssize_t)((1 + counters.members) * sizeof(*values)))
        fail("a read of the counters", errno);
    memcpy(counts, values + 1, counters.members * sizeof(*counts));
    for (int i = counters.members; i-- > 0;)
        close(counters.fds[i]);
    counters.leader = -1;
}

static inline void count_on(void)
{
    if (counters.leader >= 0)
        ioctl(counters.leader, PERF_EVENT_IOC_ENABLE, PERF_IOC_FLAG_GROUP);
}

static inline void count_off(void)
{
    if (counters.leader >= 0)
        ioctl(counters.leader, PERF_EVENT_IOC_DISABLE, PERF_IOC_FLAG_GROUP);
}

static void step(void)
{
    if (mana_model_step() < 0)
        fail("no model is preloaded", 0);
}

/* Packets to send, their bytes written as an application would. */
static void fill(struct rte_mbuf **packets, unsigned count)
{
    if (rte_pktmbuf_alloc_bulk(pool, packets, count))
        fail("no buffers", 0);
    for (unsigned i = 0; i < count; i++) {
        struct rte_mbuf *first = packets[i];
        unsigned left = plan.size, at = 0;
        struct rte_mbuf *segment = first;
        for (unsigned n = plan.segments; n > 0; n--) {
            unsigned length = left / n;
            char *data = rte_pktmbuf_append(segment, length);
            if (!data)
                fail("a buffer is too small", 0);
            memcpy(data, frame + at, length);
            at += length;
            left -= length;
            if (n < plan.segments && rte_pktmbuf_chain(first, segment))
                fail("too many segments", 0);
            if (n > 1 && !(segment = rte_pktmbuf_alloc(pool)))
                fail("no buffers", 0);
        }
        if (plan.checksum) {
            first->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_UDP_CKSUM;
            first->l2_len = 14;
            first->l3_len = 20;
        }
        if (plan.vlan) {
            first->ol_flags |= RTE_MBUF_F_TX_VLAN;
            first->vlan_tci = 5;
        }
    }
}

enum direction { TX, RX, FORWARD, POLL };

/* What is read at both ends of a timed region. */
enum reading { NOTHING, CLOCK, COUNTERS };

static inline void begin(enum reading reading, uint64_t *start)
{
    if (reading == CLOCK)
        *start = now();
    else if (reading == COUNTERS)
        count_on();
}

static inline void end(enum reading reading, uint64_t start, uint64_t *cycles)
{
    if (reading == COUNTERS) {
        count_off();
        return;
    }
    drain();
    if (reading == CLOCK)
        *cycles += now() - start;
}

/* One burst; adds its cycles and timed regions, and returns its packets. */
static unsigned burst(enum direction direction, unsigned queue, enum reading reading, uint64_t *cycles,
                      uint64_t *regions)
{
    struct rte_mbuf *packets[MAX_BURST];
    unsigned count = plan.burst, done = 0;
    uint64_t start = 0;
    uint16_t sent;
    if (direction == TX) {
        fill(packets, count);
        while (done < count) {
            begin(reading, &start);
            sent = timed_tx_burst(queue, packets + done, count - done);
            end(reading, start, cycles);
            *regions += 1;
            done += sent;
            step();
        }
        return done;
    }
    begin(reading, &start);
    if (direction == RX)
        done = timed_rx_burst(queue, packets, count);
    else if (direction == POLL)
        done = timed_poll_burst(queue, packets, count);
    else
        done = timed_forward_burst(queue, packets, count, &sent);
    end(reading, start, cycles);
    *regions += 1;
    if (direction == POLL) {
        if (done)
            fail("a packet on an idle port", 0);
        return 1;
    }
    if (direction == RX)
        rte_pktmbuf_free_bulk(packets, done);
    else
        while (sent < done) {
            step();
            sent += rte_eth_tx_burst(PORT, queue, packets + sent, done - sent);
        }
    step();
    return done;
}

static unsigned bursts(enum direction direction, uint64_t wanted, enum reading reading, uint64_t *cycles,
                       uint64_t *regions)
{
    static unsigned queue;
    uint64_t done = 0;
    unsigned barren = 0;
    while (done < wanted) {
        unsigned now_done = burst(direction, queue, reading, cycles, regions);
        queue = queue + 1 < plan.queues ? queue + 1 : 0;
        done += now_done;
        barren = now_done ? 0 : barren + 1;
        if (barren >= 64)
            fail("no packets come", 0);
    }
    return done;
}

/* Moves so many packets, and prints what was counted a packet less what as many empty regions count. */
static void run_events(enum direction direction, uint64_t packets)
{
    const unsigned empty_regions = 4096;
    uint64_t empty[EVENTS], full[EVENTS], cycles = 0, regions = 0, moved;
    struct rte_mbuf *nothing[1] = {NULL};
    if (!open_counters()) {
        printf("{\"packets\":0,\"events\":{},\"missing\":\"%s\"}\n", counters.missing);
        return;
    }
    for (unsigned i = 0; i < empty_regions; i++) {
        count_on();
        timed_nothing(0, nothing, 1);
        count_off();
    }
    close_counters(empty);
    bursts(direction, WARM_PACKETS, NOTHING, &cycles, &regions);
    if (!open_counters())
        fail("perf_event_open", errno);
    regions = 0;
    moved = bursts(direction, packets, COUNTERS, &cycles, &regions);
    close_counters(full);
    printf("{\"packets\":%" PRIu64 ",\"events\":{", moved);
    for (int i = 0; i < counters.members; i++) {
        double net = full[i] - (double)empty[i] / empty_regions * regions;
        printf("%s\"%s\":%.6f", i ? "," : "", events[counters.member[i]].name, net / moved);
    }
    printf("},\"missing\":%s%s%s}\n", counters.missing[0] ? "\"" : "", counters.missing[0] ? counters.missing : "null",
           counters.missing[0] ? "\"" : "");
}

static void run(const char *verb, enum direction direction, const char *name, uint64_t packets)
{
    uint64_t cycles = 0, regions = 0, total = 0, all_regions = 0;
    if (!strcmp(verb, "events")) {
        run_events(direction, packets);
        return;
    }
    if (!strcmp(verb, "count")) {
        total = bursts(direction, packets, NOTHING, &cycles, &regions);
        section_end();
        printf("{\"packets\":%" PRIu64 ",\"regions\":%" PRIu64 "}\n", total, regions);
        return;
    }
    size_t samples = (packets + SAMPLE - 1) / SAMPLE;
    double *sample = malloc(samples * sizeof(*sample));
    if (!sample)
        fail("memory", 0);
    bursts(direction, WARM_PACKETS, CLOCK, &cycles, &regions);
    double empty = overhead(), sum = 0;
    for (size_t i = 0; i < samples; i++) {
        cycles = regions = 0;
        unsigned done = bursts(direction, SAMPLE, CLOCK, &cycles, &regions);
        double net = (double)cycles - empty * regions;
        sample[i] = net / done;
        sum += net;
        total += done;
        all_regions += regions;
    }
    double middle = median(sample, samples);
    printf("{\"direction\":\"%s\",\"packets\":%" PRIu64 ",\"regions\":%" PRIu64
           ",\"overhead\":%.1f,\"median\":%.3f,\"min\":%.3f,\"mean\":%.3f}\n",
           name, total, all_regions, empty, middle, sample[0], sum / total);
    free(sample);
}

/* Memory of this process that is resident, in KiB: what a start of the port adds is the queues'. */
static long resident(void)
{
    char line[256];
    long kib, sum = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "VmRSS: %ld", &kib) == 1 || sscanf(line, "HugetlbPages: %ld", &kib) == 1)
            sum += kib;
    if (file)
        fclose(file);
    return sum;
}

/* The libraries that are mapped, as a JSON list: what was measured is this file and no other. */
static void print_mapped(void)
{
    char line[4096], last[4096] = "";
    const char *separator = "";
    FILE *file = fopen("/proc/self/maps", "r");
    printf("\"libraries\":[");
    while (file && fgets(line, sizeof(line), file)) {
        char *path = strchr(line, '/');
        if (!path || !strcmp(path, last))
            continue;
        strcpy(last, path);
        path[strcspn(path, "\n")] = 0;
        char *base = strrchr(path, '/') + 1;
        if (strncmp(base, "librte_net_mana", 15) && strncmp(base, "libmana.so", 10) &&
            strncmp(base, "libibverbs.so", 13))
            continue;
        printf("%s\"%s\"", separator, path);
        separator = ",";
    }
    printf("]");
    if (file)
        fclose(file);
}

static void build_frame(void)
{
    static const uint8_t head[42] = {
        0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00, 0x45, 0,   0, 0, 0,  0, 0,
        0,    64, 17, 0, 0, 198, 18, 0, 1, 198, 19, 0, 1, 0x10, 0, 0, 9, 0, 0, 0, 0};
    unsigned ip = plan.size - 14, udp = plan.size - 34;
    for (unsigned i = 0; i < plan.size; i++)
        frame[i] = (uint8_t)i;
    memcpy(frame, head, sizeof(head));
    frame[16] = ip >> 8;
    frame[17] = ip;
    frame[38] = udp >> 8;
    frame[39] = udp;
    /* A device that computes the checksum wants to find that of the pseudo header. */
    unsigned sum = 198 * 256 + 18 + 1 + 198 * 256 + 19 + 1 + 17 + udp;
    sum += sum >> 16;
    frame[40] = sum >> 8;
    frame[41] = sum;
}

static void start_port(void)
{
    struct rte_eth_dev_info info;
    struct rte_eth_conf conf = {.rxmode = {.mtu = RTE_MAX(plan.size, 1514u) - 14}};
    int error = rte_eth_dev_info_get(PORT, &info);
    if (error)
        fail("rte_eth_dev_info_get", error);
    if (strcmp(info.driver_name, "net_mana"))
        fail("the port is not of net_mana", 0);
    if (plan.checksum)
        conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
    if (plan.vlan)
        conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
    if (plan.segments > 1)
        conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
    if (plan.queues > 1) {
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = info.flow_type_rss_offloads;
    }
    if (conf.txmode.offloads & ~info.tx_offload_capa) {
        printf("{\"unsupported\":\"an offload that this release of the driver does not have\"}\n");
        fflush(stdout);
        exit(0);
    }
    if ((error = rte_eth_dev_configure(PORT, plan.queues, plan.queues, &conf)))
        fail("rte_eth_dev_configure", error);
    for (unsigned i = 0; i < plan.queues; i++) {
        if ((error = rte_eth_rx_queue_setup(PORT, i, plan.ring, 0, NULL, pool)))
            fail("rte_eth_rx_queue_setup", error);
        if ((error = rte_eth_tx_queue_setup(PORT, i, plan.ring, 0, NULL)))
            fail("rte_eth_tx_queue_setup", error);
    }
    if ((error = rte_eth_dev_start(PORT)))
        fail("rte_eth_dev_start", error);
}

static void read_plan(int argc, char **argv)
{
    struct {
        const char *name;
        unsigned *value;
    } fields[] = {
        {"burst", &plan.burst},       {"size", &plan.size},     {"ring", &plan.ring},   {"segments", &plan.segments},
        {"queues", &plan.queues},     {"checksum", &plan.checksum}, {"vlan", &plan.vlan},   {"drain", &plan.drain},
        {"cool", &plan.cool},         {"coalescing", &plan.coalescing}, {"traffic", &plan.traffic},
    };
    for (int i = 1; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        int known = 0;
        for (size_t f = 0; value && f < RTE_DIM(fields); f++)
            if (!strncmp(argv[i], fields[f].name, value - argv[i]) && !fields[f].name[value - argv[i]]) {
                *fields[f].value = atoi(value + 1);
                known = 1;
            }
        if (!known)
            fail(argv[i], 0);
    }
    if (plan.burst < 1 || plan.burst > MAX_BURST || plan.queues < 1 || plan.queues > MAX_QUEUES || plan.size < 60 ||
        plan.size > 9014 || plan.segments < 1 || plan.segments > 8 || plan.cool > 2)
        fail("a number is out of range", 0);
}

int main(int argc, char **argv)
{
    static const char *names[] = {[TX] = "tx", [RX] = "rx", [FORWARD] = "forward", [POLL] = "poll"};
    int used = rte_eal_init(argc, argv);
    if (used < 0)
        fail("rte_eal_init", rte_errno);
    read_plan(argc - used, argv + used);
    if (!mana_model_step || !mana_model_control)
        fail("no model is preloaded", 0);
    if (!rte_eth_dev_count_avail())
        fail("no port", 0);
    static const char *cool[] = {"cool none", "cool l3", "cool memory"};
    char answer[256];
    if (mana_model_control(cool[plan.cool], answer, sizeof(answer)) < 0)
        fail(answer, 0);
    build_frame();
    unsigned buffers = RTE_MAX((unsigned)BUFFERS, plan.queues * (2 * plan.ring + 2 * POOL_CACHE));
    unsigned room = RTE_MAX(plan.size, 2048u) + RTE_PKTMBUF_HEADROOM;
    pool = rte_pktmbuf_pool_create("bench", buffers, POOL_CACHE, 0, room, SOCKET_ID_ANY);
    if (!pool)
        fail("rte_pktmbuf_pool_create", rte_errno);
    long before = resident();
    start_port();
    long memory = resident() - before;
    /* What the device refuses is told by the model; a line for each packet would be all that is measured. */
    rte_log_set_level_pattern("pmd.net.mana*", RTE_LOG_CRIT);
    step();
    printf("{\"provider\":\"%s\",\"memory_kib\":%ld,", rte_version(), memory);
    print_mapped();
    printf("}\n");
    fflush(stdout);

    char line[128], verb[16], name[16];
    uint64_t packets;
    while (fgets(line, sizeof(line), stdin)) {
        if (sscanf(line, "%15s %15s %" SCNu64, verb, name, &packets) != 3)
            fail(line, 0);
        int direction = -1;
        for (int i = TX; i <= POLL; i++)
            if (!strcmp(name, names[i]))
                direction = i;
        if (direction < 0 || (strcmp(verb, "pass") && strcmp(verb, "count") && strcmp(verb, "events")))
            fail(line, 0);
        run(verb, direction, name, packets);
        fflush(stdout);
    }
    rte_eth_dev_stop(PORT);
    rte_eth_dev_close(PORT);
    rte_eal_cleanup();
    return 0;
}
