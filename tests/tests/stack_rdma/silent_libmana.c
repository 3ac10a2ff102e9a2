/* In the place of libmana.so.1: nothing of it may be called for a context that is another's. */
#include <stdio.h>
#include <stdlib.h>

int manadv_set_context_attr(void *context, int kind, void *value)
{
	fprintf(stderr, "manadv_set_context_attr was called\n");
	abort();
}

int manadv_init_obj(void *object, unsigned long kinds)
{
	fprintf(stderr, "manadv_init_obj was called\n");
	abort();
}
