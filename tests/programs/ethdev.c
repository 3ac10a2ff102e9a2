/* A program on DPDK's ethdev: opens its only port and does what lines on standard input say, for
 * what testpmd has no words for: sleeping until a packet comes, packets of odd shapes, and what is
 * seen of buffers. Words before "--" are EAL's, those behind it options "name=number".
 *
 * Each line is answered by lines that end with one that begins with "=". */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_debug.h>
#include <rte_eal.h>
#include <rte_epoll.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_mbuf.h>

enum { PORT, MOST = 4096, BURST = 512, STACK = 16 << 10 };

/* Queues each way; descriptors of each; buffers of each pool; bytes of a receive buffer behind its
 * headroom; whether queues interrupt; whether tags are stripped. */
static int queues = 1, descriptors = 128, buffers = 1000, room = 2048, interrupts, strip;
static struct rte_mempool *received, *sent, *other;
/* What "hold" keeps and "take" takes. */
static struct rte_mbuf *held[MOST], *taken[MOST];
static unsigned int holding, took;
static bool hold;
static volatile int removals;
static uint8_t number;

static void check(int code, const char *what)
{
    if (code < 0) rte_exit(9, "%s: %s\n", what, rte_strerror(-code));
}

static void options(int count, char **words)
{
    const struct { const char *name; int *value; } known[] = {
        { "queues", &queues }, { "descriptors", &descriptors }, { "buffers", &buffers },
        { "room", &room }, { "interrupts", &interrupts }, { "strip", &strip },
    };
    for (int n = 1; n < count; n++) {
        char *value = strchr(words[n], '=');
        unsigned int at = 0;
        if (value) *value++ = 0;
        while (at < RTE_DIM(known) && strcmp(known[at].name, words[n])) at++;
        if (!value || at == RTE_DIM(known)) rte_exit(9, "unknown option %s\n", words[n]);
        *known[at].value = atoi(value);
    }
}

static int on_removal(uint16_t port, enum rte_eth_event_type event, void *data, void *more)
{
    RTE_SET_USED(port); RTE_SET_USED(event); RTE_SET_USED(data); RTE_SET_USED(more);
    removals++;
    return 0;
}

static void configure(void)
{
    struct rte_eth_conf conf = {
        .rxmode = { .mq_mode = RTE_ETH_MQ_RX_RSS, .offloads = RTE_ETH_RX_OFFLOAD_RSS_HASH },
        .rx_adv_conf.rss_conf.rss_hf = RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_UDP,
        .intr_conf = { .rxq = interrupts, .rmv = 1 },
    };
    if (rte_eth_dev_count_avail() != 1) rte_exit(9, "%d ports\n", rte_eth_dev_count_avail());
    if (strip) conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
    /* Without caches: what is missing in a pool is somewhere else. */
    received = rte_pktmbuf_pool_create("received", buffers, 0, 0, room + RTE_PKTMBUF_HEADROOM, 0);
    sent = rte_pktmbuf_pool_create("sent", buffers, 0, 0, 2048 + RTE_PKTMBUF_HEADROOM, 0);
    other = rte_pktmbuf_pool_create("other", 63, 0, 0, 2048 + RTE_PKTMBUF_HEADROOM, 0);
    if (!received || !sent || !other) rte_exit(9, "no pools\n");
    check(rte_eth_dev_configure(PORT, queues, queues, &conf), "configure");
    for (int n = 0; n < queues; n++) {
        check(rte_eth_rx_queue_setup(PORT, n, descriptors, 0, NULL, received), "rx queue");
        check(rte_eth_tx_queue_setup(PORT, n, descriptors, 0, NULL), "tx queue");
    }
    check(rte_eth_dev_callback_register(PORT, RTE_ETH_EVENT_INTR_RMV, on_removal, NULL), "callback");
}

static void start(void)
{
    int code = rte_eth_dev_start(PORT);
    for (int n = 0; !code && interrupts && n < queues; n++)
        code = rte_eth_dev_rx_intr_ctl_q(PORT, n, RTE_EPOLL_PER_THREAD, RTE_INTR_EVENT_ADD,
                                         (void *)(uintptr_t)n);
    printf("= %d\n", code);
}

static uint64_t nanoseconds(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * UINT64_C(1000000000) + time.tv_nsec;
}

/* Sleeps until a queue interrupts, said before: which did, then how long it took and how much of that on a CPU,
 * in microseconds. */
static void sleep_for(int milliseconds)
{
    struct rte_epoll_event events[RTE_MAX_QUEUES_PER_PORT];
    printf("sleeping\n");
    fflush(stdout);
    uint64_t wall = nanoseconds(CLOCK_MONOTONIC), cpu = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    int count = rte_epoll_wait(RTE_EPOLL_PER_THREAD, events, RTE_DIM(events), milliseconds);
    wall = nanoseconds(CLOCK_MONOTONIC) - wall;
    cpu = nanoseconds(CLOCK_THREAD_CPUTIME_ID) - cpu;
    check(count, "epoll");
    for (int n = 0; n < count; n++) printf("queue %d\n", (int)(uintptr_t)events[n].epdata.data);
    printf("= %d %" PRIu64 " %" PRIu64 "\n", count, wall / 1000, cpu / 1000);
}

/* One burst: of each packet its length, the hash if it is told, the tag if it is told, its bytes. */
static void receive(int queue)
{
    struct rte_mbuf *packets[BURST];
    int count = rte_eth_rx_burst(PORT, queue, packets, BURST);
    for (int n = 0; n < count; n++) {
        struct rte_mbuf *packet = packets[n];
        const uint8_t *bytes = rte_pktmbuf_mtod(packet, const uint8_t *);
        printf("packet %u", packet->pkt_len);
        if (packet->ol_flags & RTE_MBUF_F_RX_RSS_HASH) printf(" hash %08x", packet->hash.rss);
        if (packet->ol_flags & RTE_MBUF_F_RX_VLAN) printf(" tag %04x", packet->vlan_tci);
        printf(" bytes ");
        for (int at = 0; at < 18 && at < packet->data_len; at++) printf("%02x", bytes[at]);
        printf("\n");
        if (hold) held[holding++] = packet;
        else rte_pktmbuf_free(packet);
    }
    printf("= %d\n", count);
}

static void not_freed(void *address, void *opaque) { RTE_SET_USED(address); RTE_SET_USED(opaque); }

static struct rte_mbuf *allocate(struct rte_mempool *pool)
{
    struct rte_mbuf *buffer = rte_pktmbuf_alloc(pool);
    if (!buffer) rte_exit(9, "no buffer is left\n");
    return buffer;
}

/* A packet of a number of segments, 60 bytes each. Of kind 'e' its data are memory of its own, of
 * kind 'c' it is a clone of a packet of another pool, of kind 'v' it asks for a tag. */
static struct rte_mbuf *packet(char kind, int segments)
{
    static struct rte_mbuf_ext_shared_info shared;
    static char external[4096];
    struct rte_mbuf *packet = allocate(sent);
    uint8_t *bytes;
    if (kind == 'e') {
        shared.free_cb = not_freed;
        rte_mbuf_ext_refcnt_set(&shared, 1);
        rte_pktmbuf_attach_extbuf(packet, external, 0, sizeof external, &shared);
    }
    if (kind == 'c') {
        struct rte_mbuf *original = allocate(other);
        rte_pktmbuf_attach(packet, original);
        rte_pktmbuf_free(original);
    }
    bytes = (uint8_t *)rte_pktmbuf_append(packet, 60);
    memset(bytes, 0, 60);
    rte_eth_macaddr_get(PORT, (struct rte_ether_addr *)bytes);
    rte_eth_macaddr_get(PORT, (struct rte_ether_addr *)(bytes + 6));
    /* An EtherType for experiments, and the packet's number. */
    bytes[12] = 0x88; bytes[13] = 0xb5; bytes[14] = number++;
    if (kind == 'v') {
        packet->ol_flags |= RTE_MBUF_F_TX_VLAN;
        packet->vlan_tci = 0x123;
    }
    for (int n = 1; n < segments; n++) {
        struct rte_mbuf *segment = allocate(sent);
        rte_pktmbuf_append(segment, 60);
        check(rte_pktmbuf_chain(packet, segment), "chain");
    }
    return packet;
}

/* What an earlier call of the program may leave behind. */
static void __rte_noinline fill_stack(void)
{
    uint8_t bytes[STACK];
    memset(bytes, 0xff, STACK);
    __asm__ volatile("" :: "r"(bytes) : "memory");
}

/* One burst of the packets that the words describe: a kind, how many, of how many segments; as in
 * "p3x2". Those that are said not to be sent are freed, as an application does. */
static void transmit(char *words)
{
    struct rte_mbuf *packets[BURST];
    int count = 0, done;
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " ")) {
        char kind;
        int many, segments;
        if (sscanf(word, "%c%dx%d", &kind, &many, &segments) != 3 || count + many > BURST)
            rte_exit(9, "no packet: %s\n", word);
        while (many--) packets[count++] = packet(kind, segments);
    }
    fill_stack();
    done = rte_eth_tx_burst(PORT, 0, packets, count);
    rte_pktmbuf_free_bulk(packets + done, count - done);
    printf("= %d\n", done);
}

/* Takes every buffer out of a pool: how many, and how many twice. */
static void take(struct rte_mempool *pool)
{
    unsigned int twice = 0;
    while (took < MOST && (taken[took] = rte_pktmbuf_alloc(pool))) took++;
    for (unsigned int n = 0; n < took; n++)
        for (unsigned int before = 0; before < n; before++) twice += taken[n] == taken[before];
    printf("= %u %u\n", took, twice);
}

static void obey(char *line)
{
    char word[16] = "", rest[256] = "";
    int value;
    sscanf(line, "%15s %255[^\n]", word, rest);
    value = atoi(rest);
    if (!strcmp(word, "start")) start();
    else if (!strcmp(word, "stop")) printf("= %d\n", rte_eth_dev_stop(PORT));
    else if (!strcmp(word, "arm")) printf("= %d\n", rte_eth_dev_rx_intr_enable(PORT, value));
    else if (!strcmp(word, "disarm")) printf("= %d\n", rte_eth_dev_rx_intr_disable(PORT, value));
    else if (!strcmp(word, "sleep")) sleep_for(value);
    else if (!strcmp(word, "receive")) receive(value);
    else if (!strcmp(word, "send")) transmit(rest);
    else if (!strcmp(word, "hold")) { hold = true; printf("= 0\n"); }
    else if (!strcmp(word, "release")) {
        rte_pktmbuf_free_bulk(held, holding);
        rte_pktmbuf_free_bulk(taken, took);
        hold = false; holding = took = 0;
        printf("= 0\n");
    } else if (!strcmp(word, "take")) take(strcmp(rest, "sent") ? received : sent);
    else if (!strcmp(word, "away")) printf("= %u\n", rte_mempool_in_use_count(sent));
    else if (!strcmp(word, "removals")) printf("= %d\n", removals);
    else if (!strcmp(word, "mtu")) {
        uint16_t mtu = 0;
        check(rte_eth_dev_get_mtu(PORT, &mtu), "mtu");
        printf("= %u\n", mtu);
    } else if (!strcmp(word, "counters")) {
        struct rte_eth_stats stats;
        check(rte_eth_stats_get(PORT, &stats), "counters");
        printf("= %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", stats.ipackets, stats.ierrors,
               stats.opackets, stats.oerrors);
    } else rte_exit(9, "unknown command %s\n", word);
    fflush(stdout);
}

int main(int count, char **words)
{
    char line[256];
    int own = rte_eal_init(count, words);
    check(own, "EAL");
    options(count - own, words + own);
    configure();
    printf("= ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) obey(line);
    /* A port that was never started, or whose device is gone, has nothing to stop. */
    rte_eth_dev_stop(PORT);
    check(rte_eth_dev_close(PORT), "close");
    return rte_eal_cleanup();
}
