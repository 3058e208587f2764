/* A Work Queue manager that runs no-op tasks, for the bench "compare".

   usage: workqueue SECONDS

   Listens on a free port, prints "port N", then keeps WINDOW tasks of one core
   that run /bin/true in the manager, and prints "done TASKS SECONDS FAILED" once
   the seconds are over. They count from the first task that returned, so that
   the worker's connecting is not in them. */

#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include "work_queue.h"

enum { WINDOW = 1000 };

static double now(void) {
	struct timeval t;
	gettimeofday(&t, NULL);
	return t.tv_sec + t.tv_usec / 1e6;
}

int main(int argc, char **argv) {
	if (argc != 2) {
		fprintf(stderr, "usage: %s SECONDS\n", argv[0]);
		return 2;
	}
	double budget = atof(argv[1]);
	struct work_queue *q = work_queue_create(0);
	if (!q) {
		perror("work_queue_create");
		return 1;
	}
	printf("port %d\n", work_queue_port(q));
	fflush(stdout);
	int submitted = 0, returned = 0, failed = 0;
	double begin = 0;
	while (!begin || now() - begin < budget) {
		while (submitted - returned < WINDOW) {
			struct work_queue_task *t = work_queue_task_create("/bin/true");
			work_queue_task_specify_cores(t, 1);
			work_queue_task_specify_memory(t, 1);
			work_queue_task_specify_disk(t, 1);
			work_queue_submit(q, t);
			submitted++;
		}
		struct work_queue_task *t = work_queue_wait(q, 5);
		if (!t)
			continue;
		if (!begin)
			begin = now();
		if (t->return_status != 0)
			failed++;
		returned++;
		work_queue_task_delete(t);
	}
	printf("done %d %.3f %d\n", returned, now() - begin, failed);
	work_queue_delete(q);
	return 0;
}
