/* A small external TFLite delegate that behaves as it is told: well, badly, or as an attacker.
 *
 * It has its own declarations of the runtime's C structures (no headers of the runtime are
 * needed), claims RESHAPE nodes and really executes them inside the graph. Options, all text:
 *   mode    copy (right), corrupt, fail_prepare, fail_invoke, hang_invoke, crash_invoke,
 *           no_device, crash_create, claims_nothing, slow, attack
 *   after   how many calls go well before it misbehaves
 *   attack  with mode attack: which one; arguments in `path` and `process`
 * What an attack came to is the text of the error that the call then fails with.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The attacks: 0 and a found thing, or -1 and errno. */

static int try_open(const char *path, int flags) {
  int fd = open(path, flags | O_CLOEXEC, 0600);
  if (fd >= 0) close(fd);
  return fd < 0 ? -1 : 0;
}
static int try_read(const char *path) {
  char byte;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  int got = read(fd, &byte, 1);
  close(fd);
  return got < 0 ? -1 : 0;
}
static int try_socket(int family, int kind) {
  int fd = socket(family, kind, 0);
  if (fd >= 0) close(fd);
  return fd < 0 ? -1 : 0;
}
static int try_fork(void) {
  pid_t child = fork();
  if (child < 0) return -1;
  if (child == 0) _exit(0);
  waitpid(child, 0, 0);
  return 0;
}
static int try_memory(void) {
  void *got = mmap(0, 1ull << 40, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (got == MAP_FAILED) return -1;
  munmap(got, 1ull << 40);
  return 0;
}
static int try_more_memory(void) { /* lift the bound first */
  struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
  return setrlimit(RLIMIT_AS, &all);
}
static int try_fill(void) { /* write far behind the end of whatever is open for writing */
  int refused = EBADF;
  for (int fd = 3; fd < 64; fd++) {
    struct stat at;
    if (fstat(fd, &at) || !S_ISREG(at.st_mode)) continue;
    if (pwrite(fd, "x", 1, 1ll << 33) == 1) return 0;
    refused = errno;
  }
  errno = refused;
  return -1;
}
static int try_memory_of(int process) {
  char path[64], bytes[8];
  snprintf(path, sizeof path, "/proc/%d/maps", process);
  FILE *maps = fopen(path, "re");
  unsigned long from = 0;
  if (!maps) return -1;
  if (fscanf(maps, "%lx", &from) != 1) { fclose(maps); errno = EACCES; return -1; }
  fclose(maps);
  snprintf(path, sizeof path, "/proc/%d/mem", process);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  int got = pread(fd, bytes, sizeof bytes, from);
  close(fd);
  return got < 0 ? -1 : 0;
}
static int try_tensors_of(int process) { /* open another worker's shared region by its descriptor */
  int refused = ENOENT;
  for (int fd = 3; fd < 64; fd++) {
    char path[64];
    struct stat at;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", process, fd);
    if (stat(path, &at)) { if (errno != ENOENT) refused = errno; continue; }
    if (!S_ISREG(at.st_mode)) continue;
    if (try_read(path) == 0) return 0;
    refused = errno;
  }
  errno = refused;
  return -1;
}
static int try_signal_by_descriptor(int process) { /* SIGIO to somebody else: SIGURG here, harmless */
  int pair[2];
  for (int fd = 3; fd < 64; fd++) {
    int kind;
    socklen_t size = sizeof kind;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &size)) continue;
    if (fcntl(fd, F_SETOWN, process)) return -1;
    return 0;
  }
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return -1;
  return fcntl(pair[0], F_SETOWN, process);
}
static int try_abstract(void) {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) return -1;
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  strcpy(at.sun_path + 1, "skerry-none");
  int done = connect(fd, (struct sockaddr *)&at, sizeof(sa_family_t) + 12);
  int why = errno;
  close(fd);
  if (done && why == ECONNREFUSED) return 0; /* it was let out; nobody happened to listen */
  errno = why;
  return done;
}

int attack(const char *what, const char *path, int process) {
#define IS(name) if (!strcmp(what, name))
  IS("internet-socket") return try_socket(AF_INET, SOCK_STREAM);
  IS("unix-socket") return try_abstract();
  IS("netlink-socket") return try_socket(AF_NETLINK, SOCK_RAW);
  IS("read-a-key") return try_read(path);
  IS("write-the-ledger") return try_open(path, O_RDWR);
  IS("write-outside") return try_open(path, O_WRONLY | O_CREAT);
  IS("delete-a-file") return unlink(path);
  IS("fork") return try_fork();
  IS("exec") return execl("/bin/true", "true", (char *)0);
  IS("memory") return try_memory();
  IS("lift-the-limit") return try_more_memory();
  IS("hidden-memory") return syscall(SYS_memfd_create, "x", 0) < 0 ? -1 : 0;
  IS("disk") return try_fill();
  IS("kill-the-parent") return kill(process, SIGCONT);
  IS("signal-by-descriptor") return try_signal_by_descriptor(process);
  IS("outlive-the-parent") return prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
  IS("trace-the-parent") return ptrace(PTRACE_SEIZE, process, 0, 0) < 0 ? -1 : 0;
  IS("memory-of-the-parent") return try_memory_of(process);
  IS("tensors-of-another") return try_tensors_of(process);
  IS("new-namespace") return unshare(CLONE_NEWUSER);
  errno = EINVAL;
  return -1;
}

/* The delegate. Structures in the order of the runtime's C ABI (tensorflow/lite/core/c/common.h). */

typedef struct { int size; int data[]; } IntArray;
typedef struct Context Context; typedef struct Node Node;
typedef struct Registration Registration; typedef struct Delegate Delegate;
typedef struct {
  int type; void *data; IntArray *dims; float scale; int32_t zero_point; int allocation_type; size_t bytes;
  const void *allocation; const char *name; Delegate *delegate; int handle; bool stale, is_variable;
  int quantization_type; void *quantization; void *sparsity; const IntArray *signature;
} Tensor;
struct Node {
  IntArray *inputs, *outputs, *intermediates, *temporaries; void *user_data; void *builtin_data;
  const void *custom_data; int custom_size; Delegate *delegate; bool side_effect;
};
struct Registration {
  void *(*init)(Context *, const char *, size_t); void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *); int (*invoke)(Context *, Node *);
  const char *(*profiling)(const Context *, const Node *); int32_t builtin_code; const char *custom_name;
  int version; void *external; void *async; uint64_t inplace; uint64_t spare[4];
};
struct Context {
  size_t count; int (*plan)(Context *, IntArray **); Tensor *tensors; void *impl;
  int (*resize)(Context *, Tensor *, IntArray *); void (*report)(Context *, const char *, ...);
  int (*add)(Context *, int, int *); int (*node)(Context *, int, Node **, Registration **);
  int (*replace)(Context *, Registration, const IntArray *, Delegate *);
};
struct Delegate {
  void *data; int (*prepare)(Context *, Delegate *); void *from; void *to;
  void (*free_handle)(Context *, Delegate *, int *); int64_t flags; void *opaque;
};
typedef struct { Delegate *delegate; IntArray *nodes, *in, *out; } Parameters;
typedef struct { Delegate delegate; char mode[32], attack[32], path[256]; int process, after; } Stub;

static int calls; /* of all delegates: the runtime is built anew for each fresh state */

enum { RESHAPE = 22, DELEGATED = 51 };

static void *kernel_init(Context *c, const char *given, size_t n) {
  (void)c; (void)n;
  return ((const Parameters *)given)->delegate->data;
}
static void kernel_free(Context *c, void *b) { (void)c; (void)b; }
static int kernel_prepare(Context *c, Node *n) { (void)c; (void)n; return 0; }
static void wait_ms(long ms) {
  struct timespec left = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&left, 0);
}
static int kernel_invoke(Context *c, Node *node) {
  Stub *stub = node->user_data;
  const char *mode = calls++ < stub->after ? "copy" : stub->mode;
  if (!strcmp(mode, "fail_invoke")) { c->report(c, "stub delegate: device lost"); return 1; }
  if (!strcmp(mode, "crash_invoke")) *(volatile int *)0 = 1;
  if (!strcmp(mode, "hang_invoke")) for (;;) wait_ms(1000);
  if (!strcmp(mode, "slow")) wait_ms(40);
  if (!strcmp(mode, "attack")) {
    int done = attack(stub->attack, stub->path, stub->process);
    c->report(c, "attack %s: %s", stub->attack, done == 0 ? "SUCCEEDED" : strerror(errno));
    return 1;
  }
  Tensor *in = 0, *out = &c->tensors[node->outputs->data[0]];
  for (int k = 0; k < node->inputs->size; k++) {
    Tensor *each = &c->tensors[node->inputs->data[k]];
    if (each->bytes == out->bytes && each->type == out->type) { in = each; break; }
  }
  if (!in) { c->report(c, "stub delegate: no matching input"); return 1; }
  memcpy(out->data, in->data, out->bytes);
  if (!strcmp(mode, "corrupt"))
    for (size_t k = 0; k < out->bytes; k++) ((unsigned char *)out->data)[k] ^= 0x55;
  return 0;
}
static int delegate_prepare(Context *c, Delegate *d) {
  Stub *stub = d->data;
  IntArray *plan;
  if (!strcmp(stub->mode, "fail_prepare")) { c->report(c, "stub delegate: prepare refused"); return 1; }
  if (c->plan(c, &plan)) return 1;
  IntArray *chosen = malloc(sizeof(int) * (plan->size + 1));
  chosen->size = 0;
  for (int k = 0; k < plan->size; k++) {
    Node *node;
    Registration *has;
    if (c->node(c, plan->data[k], &node, &has)) { free(chosen); return 1; }
    if (has->builtin_code == RESHAPE) chosen->data[chosen->size++] = plan->data[k];
  }
  int failed = 0;
  if (chosen->size && strcmp(stub->mode, "claims_nothing")) {
    Registration mine;
    memset(&mine, 0, sizeof mine);
    mine.init = kernel_init; mine.free = kernel_free; mine.prepare = kernel_prepare; mine.invoke = kernel_invoke;
    mine.custom_name = "StubDelegate"; mine.version = 1; mine.builtin_code = DELEGATED;
    failed = c->replace(c, mine, chosen, d);
  }
  free(chosen);
  return failed;
}
Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t n, void (*report)(const char *)) {
  Stub *stub = calloc(1, sizeof *stub);
  strcpy(stub->mode, "copy");
  stub->delegate.data = stub;
  stub->delegate.prepare = delegate_prepare;
  for (size_t i = 0; i < n; i++) {
    if (!strcmp(keys[i], "mode")) strncpy(stub->mode, values[i], sizeof stub->mode - 1);
    else if (!strcmp(keys[i], "attack")) strncpy(stub->attack, values[i], sizeof stub->attack - 1);
    else if (!strcmp(keys[i], "path")) strncpy(stub->path, values[i], sizeof stub->path - 1);
    else if (!strcmp(keys[i], "process")) stub->process = atoi(values[i]);
    else if (!strcmp(keys[i], "after")) stub->after = atoi(values[i]);
    else {
      if (report) report("stub delegate: unknown option");
      free(stub);
      return 0;
    }
  }
  if (!strcmp(stub->mode, "no_device")) {
    if (report) report("stub delegate: no device found");
    free(stub);
    return 0;
  }
  if (!strcmp(stub->mode, "crash_create")) abort();
  return &stub->delegate;
}
void tflite_plugin_destroy_delegate(Delegate *d) {
  if (d) free(d->data); /* after a refused creation the runtime calls this with nothing */
}
