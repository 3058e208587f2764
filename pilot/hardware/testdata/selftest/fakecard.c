/*
 * A card that is not there, for tests of the self-test: the calls of CUDA's driver,
 * of ROCm's runtime and of its compiler that test.py makes, over memory of the
 * process. Kernels are executed from kernels.ptx, instruction by instruction; an
 * instruction that is not known ends the process, so that new PTX is noticed.
 *
 * FAKECARD names what goes wrong:
 *   none      there is no device          two       there are two
 *   full      no memory is left           lost      a launch fails
 *   wrong     one item computes wrongly   stuck     one bit of memory is stuck
 *   idle      nothing is executed         lies      stuck, and check is not executed
 *   hang      a launch does not end       crash     the driver ends the process
 *   compiler  there is none
 *
 * FAKECARD_FILE is a file of one line, a card of CUDA_VISIBLE_DEVICES and a fault,
 * which only that card has.
 *
 * HIP is given code that the compiler made: FAKECARD_PTX is the file it takes.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(const char *how)
{
	static char card[128], fault[32];
	const char *visible = getenv("CUDA_VISIBLE_DEVICES"), *f = getenv("FAKECARD");
	if (!card[0]) {
		FILE *file = fopen(getenv("FAKECARD_FILE") ? getenv("FAKECARD_FILE") : "/dev/null", "r");
		if (!file || fscanf(file, "%127s %31s", card, fault) != 2)
			strcpy(card, "none");
		if (file)
			fclose(file);
	}
	if (visible && strcmp(visible, card) == 0)
		f = fault;
	return f && strcmp(f, how) == 0;
}

static void give_up(const char *what, const char *text)
{
	fprintf(stderr, "fakecard: %s: %s\n", what, text);
	abort();
}

#define OPERATIONS(X) \
	X(RET, "ret") X(BRA, "bra") X(BRA_UNI, "bra.uni") \
	X(LD_PARAM_U32, "ld.param.u32") X(LD_PARAM_U64, "ld.param.u64") X(MOV_U32, "mov.u32") \
	X(MAD_LO_S32, "mad.lo.s32") X(MUL_LO_S32, "mul.lo.s32") X(MUL_WIDE_U32, "mul.wide.u32") \
	X(ADD_S32, "add.s32") X(ADD_S64, "add.s64") X(AND_B32, "and.b32") \
	X(XOR_B32, "xor.b32") X(SHL_B32, "shl.b32") X(SHR_U32, "shr.u32") \
	X(SETP_GE_U32, "setp.ge.u32") X(SETP_EQ_S32, "setp.eq.s32") X(CVT_RN_F32_U32, "cvt.rn.f32.u32") \
	X(CVT_RZI_U32_F32, "cvt.rzi.u32.f32") X(CVT_RMI_F32_F32, "cvt.rmi.f32.f32") X(MUL_RN_F32, "mul.rn.f32") \
	X(FMA_RN_F32, "fma.rn.f32") X(LD_GLOBAL_U32, "ld.global.u32") X(ST_GLOBAL_U32, "st.global.u32") \
	X(RED_GLOBAL_ADD_U32, "red.global.add.u32")

#define NUMBER(number, text) number,
#define TEXT(number, text) text,
enum operation { OPERATIONS(NUMBER) };
static const char *const operations[] = {OPERATIONS(TEXT)};

/* An operand is a register, a number, or a parameter's place. */
struct operand {
	char kind; /* r f d p: registers; i: number; t: thread; 0: none */
	int index;
	uint64_t value;
};

struct instruction {
	enum operation op;
	int guard; /* predicate register, or -1 */
	struct operand arg[4];
	char label[32]; /* of a branch, before it is found */
	int target;
};

struct kernel {
	char name[32];
	int count;
	struct instruction code[128];
};

static struct kernel kernels[8];
static int kernel_count;

enum { CTAID, NTID, TID };

static struct operand parse_operand(char *s)
{
	struct operand o = {0};
	while (*s == '[' || *s == ' ' || *s == '\t')
		s++;
	s[strcspn(s, "] ;")] = 0;
	if (strcmp(s, "%ctaid.x") == 0)
		o.kind = 't', o.index = CTAID;
	else if (strcmp(s, "%ntid.x") == 0)
		o.kind = 't', o.index = NTID;
	else if (strcmp(s, "%tid.x") == 0)
		o.kind = 't', o.index = TID;
	else if (strncmp(s, "%rd", 3) == 0)
		o.kind = 'd', o.index = atoi(s + 3);
	else if (*s == '%')
		o.kind = s[1], o.index = atoi(s + 2);
	else if (strncmp(s, "0f", 2) == 0)
		o.kind = 'i', o.value = strtoull(s + 2, NULL, 16);
	else if (strstr(s, "_param_"))
		o.kind = 'i', o.value = (uint64_t)atoi(strstr(s, "_param_") + 7);
	else if (*s == '-' || (*s >= '0' && *s <= '9'))
		o.kind = 'i', o.value = (uint64_t)strtoll(s, NULL, 10);
	else
		give_up("operand", s);
	if ((o.kind == 'r' || o.kind == 'f' || o.kind == 'd' || o.kind == 'p') && (o.index < 0 || o.index >= 64))
		give_up("register", s);
	return o;
}

static void parse(const char *ptx)
{
	char *text = strdup(ptx), *rest = text, *line;
	struct kernel *k = NULL;
	char labels[128][32];
	int at[128], n = 0, inside = 0;
	if (!strstr(ptx, ".version") || !strstr(ptx, ".target"))
		give_up("no PTX", "");
	kernel_count = 0;
	while ((line = strsep(&rest, "\n"))) {
		line[strcspn(line, "\r")] = 0;
		if (strstr(line, "//"))
			*strstr(line, "//") = 0;
		while (*line == ' ' || *line == '\t')
			line++;
		if (strncmp(line, ".visible .entry ", 16) == 0) {
			k = &kernels[kernel_count++];
			memset(k, 0, sizeof *k);
			snprintf(k->name, sizeof k->name, "%.*s", (int)strcspn(line + 16, "("), line + 16);
			n = 0;
		} else if (*line == '{') {
			inside = 1;
		} else if (*line == '}') {
			for (int i = 0; i < k->count; i++)
				for (int j = 0; j < n && k->code[i].label[0]; j++)
					if (strcmp(labels[j], k->code[i].label) == 0)
						k->code[i].target = at[j];
			inside = 0;
		} else if (inside && *line == '$') {
			snprintf(labels[n], sizeof labels[n], "%.*s", (int)strcspn(line, ":"), line);
			at[n++] = k->count;
		} else if (inside && *line && *line != '.') {
			struct instruction *c = &k->code[k->count++];
			c->guard = -1;
			c->target = -1;
			if (*line == '@') {
				c->guard = atoi(line + 3);
				line += strcspn(line, " \t") + 1;
			}
			char op[32];
			snprintf(op, sizeof op, "%.*s", (int)strcspn(line, " \t;"), line);
			size_t known = 0, all = sizeof operations / sizeof *operations;
			while (known < all && strcmp(operations[known], op) != 0)
				known++;
			if (known == all)
				give_up("instruction", op);
			c->op = (enum operation)known;
			line += strcspn(line, " \t;");
			line += strspn(line, " \t");
			if (c->op == BRA || c->op == BRA_UNI) {
				snprintf(c->label, sizeof c->label, "%.*s", (int)strcspn(line, ";"), line);
				continue;
			}
			char *operand;
			for (int i = 0; c->op != RET && (operand = strsep(&line, ",")); i++)
				c->arg[i] = parse_operand(operand);
		}
	}
	free(text);
}

struct registers {
	uint32_t r[64];
	float f[64];
	uint64_t d[64];
	int p[64];
	uint32_t thread[3];
};

static uint32_t u32(struct registers *x, struct operand o)
{
	return o.kind == 'r' ? x->r[o.index] : o.kind == 't' ? x->thread[o.index] : (uint32_t)o.value;
}

static uint64_t u64(struct registers *x, struct operand o)
{
	return o.kind == 'd' ? x->d[o.index] : o.value;
}

static float f32(struct registers *x, struct operand o)
{
	uint32_t bits = (uint32_t)o.value;
	float value;
	if (o.kind == 'f')
		return x->f[o.index];
	memcpy(&value, &bits, sizeof value);
	return value;
}

static uint64_t base; /* of the last large memory that was asked for */
static size_t extent;

static void store(uint64_t address, uint32_t value)
{
	if ((fails("stuck") || fails("lies")) && address == base + 4 * 1000)
		value &= ~4u;
	if (fails("wrong") && address == base + 4 * 4711 && extent == 4 << 14)
		value ^= 1;
	*(uint32_t *)(uintptr_t)address = value;
}

static void execute(struct kernel *k, struct registers *x, void **parameters)
{
	for (int i = 0; i < k->count; i++) {
		struct instruction *c = &k->code[i];
		struct operand *a = c->arg;
		if (c->guard >= 0 && !x->p[c->guard])
			continue;
		switch (c->op) {
		case RET:
			return;
		case BRA:
		case BRA_UNI:
			if (c->target < 0)
				give_up("label", c->label);
			i = c->target - 1;
			break;
		case LD_PARAM_U32:
			x->r[a[0].index] = *(uint32_t *)parameters[a[1].value];
			break;
		case LD_PARAM_U64:
			x->d[a[0].index] = *(uint64_t *)parameters[a[1].value];
			break;
		case MOV_U32:
			x->r[a[0].index] = u32(x, a[1]);
			break;
		case MAD_LO_S32:
			x->r[a[0].index] = u32(x, a[1]) * u32(x, a[2]) + u32(x, a[3]);
			break;
		case MUL_LO_S32:
			x->r[a[0].index] = u32(x, a[1]) * u32(x, a[2]);
			break;
		case MUL_WIDE_U32:
			x->d[a[0].index] = (uint64_t)u32(x, a[1]) * u32(x, a[2]);
			break;
		case ADD_S32:
			x->r[a[0].index] = u32(x, a[1]) + u32(x, a[2]);
			break;
		case ADD_S64:
			x->d[a[0].index] = u64(x, a[1]) + u64(x, a[2]);
			break;
		case AND_B32:
			x->r[a[0].index] = u32(x, a[1]) & u32(x, a[2]);
			break;
		case XOR_B32:
			x->r[a[0].index] = u32(x, a[1]) ^ u32(x, a[2]);
			break;
		case SHL_B32:
			x->r[a[0].index] = u32(x, a[1]) << u32(x, a[2]);
			break;
		case SHR_U32:
			x->r[a[0].index] = u32(x, a[1]) >> u32(x, a[2]);
			break;
		case SETP_GE_U32:
			x->p[a[0].index] = u32(x, a[1]) >= u32(x, a[2]);
			break;
		case SETP_EQ_S32:
			x->p[a[0].index] = u32(x, a[1]) == u32(x, a[2]);
			break;
		case CVT_RN_F32_U32:
			x->f[a[0].index] = (float)u32(x, a[1]);
			break;
		case CVT_RZI_U32_F32:
			x->r[a[0].index] = (uint32_t)f32(x, a[1]);
			break;
		case CVT_RMI_F32_F32:
			x->f[a[0].index] = floorf(f32(x, a[1]));
			break;
		case MUL_RN_F32:
			x->f[a[0].index] = f32(x, a[1]) * f32(x, a[2]);
			break;
		case FMA_RN_F32:
			/* exact for the small numbers of these kernels, and quick everywhere */
			x->f[a[0].index] = (float)((double)f32(x, a[1]) * f32(x, a[2]) + f32(x, a[3]));
			break;
		case LD_GLOBAL_U32:
			x->r[a[0].index] = *(uint32_t *)(uintptr_t)u64(x, a[1]);
			break;
		case ST_GLOBAL_U32:
			store(u64(x, a[0]), u32(x, a[1]));
			break;
		case RED_GLOBAL_ADD_U32:
			*(uint32_t *)(uintptr_t)u64(x, a[0]) += u32(x, a[1]);
			break;
		}
	}
}

static int init(void) { return fails("none") ? 100 : 0; }

static int device_count(int *n)
{
	*n = fails("two") ? 2 : 1;
	return 0;
}

static int memory_info(size_t *left, size_t *total)
{
	*left = 1 << 20; /* an eighth of which is soon looked through */
	*total = 8 << 20;
	return 0;
}

static int allocate(uint64_t *address, size_t n)
{
	if (fails("full"))
		return 2;
	void *p = calloc(1, n);
	*address = (uint64_t)(uintptr_t)p;
	if (n >= 1 << 14)
		base = *address, extent = n;
	return 0;
}

static int load(const char *ptx)
{
	if (fails("crash"))
		abort();
	parse(ptx);
	return 0;
}

static int find(void **function, const char *name)
{
	for (int i = 0; i < kernel_count; i++)
		if (strcmp(kernels[i].name, name) == 0) {
			*function = &kernels[i];
			return 0;
		}
	return 500;
}

static int launch(struct kernel *k, unsigned groups, unsigned group, void **parameters)
{
	if (fails("idle") || (fails("lies") && strcmp(k->name, "check") == 0))
		return 0;
	for (unsigned g = 0; g < groups; g++)
		for (unsigned i = 0; i < group; i++) {
			struct registers x;
			memset(&x, 0, sizeof x);
			x.thread[CTAID] = g, x.thread[NTID] = group, x.thread[TID] = i;
			execute(k, &x, parameters);
		}
	return 0;
}

static int finish(void)
{
	while (fails("hang"))
		pause();
	return fails("lost") ? 719 : 0;
}

static int put(uint64_t to, const void *from, size_t n) { return memcpy((void *)(uintptr_t)to, from, n), 0; }
static int take(void *to, uint64_t from, size_t n) { return memcpy(to, (void *)(uintptr_t)from, n), 0; }

#ifdef CUDA
int cuInit(unsigned flags) { return (void)flags, init(); }
int cuDriverGetVersion(int *v) { return *v = 12040, 0; }
int cuDeviceGetCount(int *n) { return device_count(n); }
int cuDeviceGet(int *device, int i) { return *device = i, 0; }
int cuDeviceGetName(char *name, int n, int device) { return (void)device, snprintf(name, (size_t)n, "no card"), 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { return (void)device, *context = kernels, 0; }
int cuCtxSetCurrent(void *context) { return context == kernels ? 0 : 201; }
int cuCtxSynchronize(void) { return finish(); }
int cuModuleLoadData(void **module, const char *image) { return *module = kernels, fails("compiler") ? 221 : load(image); }
int cuModuleGetFunction(void **function, void *module, const char *name) { return module == kernels ? find(function, name) : 400; }
int cuMemGetInfo_v2(size_t *left, size_t *total) { return memory_info(left, total); }
int cuMemAlloc_v2(uint64_t *address, size_t n) { return allocate(address, n); }
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t n) { return put(to, from, n); }
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t n) { return take(to, from, n); }
int cuLaunchKernel(struct kernel *k, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *stream,
		   void **parameters, void **extra)
{
	return gy != 1 || gz != 1 || by != 1 || bz != 1 || shared || stream || extra ? 1 : launch(k, gx, bx, parameters);
}
#endif

#ifdef HIP
int hipInit(unsigned flags) { return (void)flags, init(); }
int hipRuntimeGetVersion(int *v) { return *v = 60443484, 0; }
int hipGetDeviceCount(int *n) { return device_count(n); }
int hipSetDevice(int device) { return device; }
int hipDeviceGetName(char *name, int n, int device) { return (void)device, snprintf(name, (size_t)n, "no card"), 0; }
int hipDeviceSynchronize(void) { return finish(); }
int hipModuleLoadData(void **module, const char *image) { return *module = kernels, load(image); }
int hipModuleGetFunction(void **function, void *module, const char *name) { return module == kernels ? find(function, name) : 400; }
int hipMemGetInfo(size_t *left, size_t *total) { return memory_info(left, total); }
int hipMalloc(uint64_t *address, size_t n) { return allocate(address, n); }
int hipMemcpyHtoD(uint64_t to, const void *from, size_t n) { return put(to, from, n); }
int hipMemcpyDtoH(void *to, uint64_t from, size_t n) { return take(to, from, n); }
int hipModuleLaunchKernel(struct kernel *k, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *stream,
			  void **parameters, void **extra)
{
	return gy != 1 || gz != 1 || by != 1 || bz != 1 || shared || stream || extra ? 1 : launch(k, gx, bx, parameters);
}
#endif

#ifdef HIPRTC
static char code[1 << 16];
int hiprtcCreateProgram(void **program, const char *source, const char *name, int n, const char **headers, const char **names)
{
	(void)name, (void)headers, (void)names;
	return *program = code, n != 0 || !strstr(source, "__HIP__");
}
int hiprtcCompileProgram(void *program, int n, const char **options)
{
	FILE *f = fopen(getenv("FAKECARD_PTX"), "r");
	(void)options;
	if (program != code || n != 0 || !f || fails("compiler"))
		return 6;
	code[fread(code, 1, sizeof code - 1, f)] = 0;
	return fclose(f);
}
int hiprtcGetCodeSize(void *program, size_t *n) { return *n = strlen(program) + 1, 0; }
int hiprtcGetCode(void *program, char *to) { return strcpy(to, program), 0; }
#endif
