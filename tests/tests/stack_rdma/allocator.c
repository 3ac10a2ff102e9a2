/*
 * Preloaded behind the model: stands between libmana and the allocator that the program gives it.
 * In the folder XDG_RUNTIME_DIR it writes every allocation and free down ("allocations"), and reads
 * which allocation from now on gets nothing ("allocator-fails": a number, 0 or no file for none).
 * Before each allocation, where a file "allocator-strangers" is, another thread asks for as much and
 * frees what nobody gave.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <infiniband/manadv.h>

#define CONTEXTS 16
/* What nobody gave. */
#define FOREIGN ((void *)(uintptr_t)0x123000)

static struct manadv_ctx_allocators theirs[CONTEXTS];
static unsigned int contexts;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const char *path(char *room, size_t length, const char *name)
{
	const char *folder = getenv("XDG_RUNTIME_DIR");

	if (!folder || snprintf(room, length, "%s/%s", folder, name) >= (int)length)
		abort();
	return room;
}

static void put(const char *line)
{
	char room[512];
	int fd = open(path(room, sizeof(room), "allocations"),
		      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, line, strlen(line)) != (ssize_t)strlen(line))
		abort();
	close(fd);
}

/* Whether this allocation is the one to fail. */
static int fails(void)
{
	char room[512], text[16] = "";
	int fd = open(path(room, sizeof(room), "allocator-fails"), O_RDWR | O_CLOEXEC), number;

	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) < 0)
		abort();
	number = atoi(text);
	if (number > 0) {
		snprintf(text, sizeof(text), "%d", number - 1);
		if (ftruncate(fd, 0) || pwrite(fd, text, strlen(text), 0) < 0)
			abort();
	}
	close(fd);
	return number == 1;
}

struct stranger {
	struct manadv_ctx_allocators *of;
	size_t size;
};

static void *stranger(void *argument)
{
	struct stranger *self = argument;
	void *got = self->of->alloc(self->size, self->of->data);

	if (got)
		put("stolen\n");
	self->of->free(FOREIGN, self->of->data);
	return NULL;
}

static void *allocate(size_t size, void *data)
{
	struct manadv_ctx_allocators *of = data;
	struct stranger other = { of, size };
	char room[512], line[128];
	pthread_t thread;
	void *got = NULL;

	if (!access(path(room, sizeof(room), "allocator-strangers"), F_OK)) {
		if (pthread_create(&thread, NULL, stranger, &other))
			abort();
		pthread_join(thread, NULL);
	}
	pthread_mutex_lock(&lock);
	if (!fails())
		got = of->alloc(size, of->data);
	snprintf(line, sizeof(line), "alloc %u %zu %lx\n", (unsigned int)(of - theirs), size,
		 (unsigned long)(uintptr_t)got);
	put(line);
	pthread_mutex_unlock(&lock);
	if (!got)
		errno = ENOMEM;
	return got;
}

static void release(void *pointer, void *data)
{
	struct manadv_ctx_allocators *of = data;
	char line[128];

	of->free(pointer, of->data);
	snprintf(line, sizeof(line), "free %u 0 %lx\n", (unsigned int)(of - theirs),
		 (unsigned long)(uintptr_t)pointer);
	pthread_mutex_lock(&lock);
	put(line);
	pthread_mutex_unlock(&lock);
}

static int (*real_set)(struct ibv_context *, enum manadv_set_ctx_attr_type, void *);

static int set(struct ibv_context *context, enum manadv_set_ctx_attr_type kind, void *value)
{
	struct manadv_ctx_allocators ours = { allocate, release, NULL };

	if (kind != MANADV_CTX_ATTR_BUF_ALLOCATORS || contexts == CONTEXTS)
		abort();
	theirs[contexts] = *(struct manadv_ctx_allocators *)value;
	ours.data = &theirs[contexts++];
	return real_set(context, kind, &ours);
}

/* Programs that open libmana find its functions by this one. */
void *dlsym(void *handle, const char *name)
{
	static void *(*real)(void *, const char *);
	void *found;

	if (!real)
		real = (void *(*)(void *, const char *))dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
	found = real(handle, name);
	if (!found || strcmp(name, "manadv_set_context_attr"))
		return found;
	real_set = (int (*)(struct ibv_context *, enum manadv_set_ctx_attr_type, void *))found;
	return (void *)set;
}
