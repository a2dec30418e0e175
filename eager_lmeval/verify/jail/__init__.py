r"""Runs a program that nobody has read against tests that it must not see.

::

    caller ── leash, report ──> supervisor (process 1 of its own namespaces: limits, clock, memory)
                                  ├── tests    exec the dataset's test; `candidate` is a stand-in that asks ──┐
                                  └── program  exec the text's program; answers calls  <── socket pair ───────┘

**What is defended.** The machine, the caller and the verdict, against a program that wants to harm them or to pass
without solving the problem. The program is Python with everything that it can reach from there, native code included.

**Why a pass cannot be forged.** The program never shares a process with the tests. It gets arguments and returns
*values*: None, booleans, numbers, strings, bytes, and lists, tuples, sets and dicts of these (`values`). They are
compared by the dataset's own code in another process, of another user where the caller is root, not dumpable (no
ptrace, no ``/proc/PID/mem``) everywhere. So exit codes, prints, patched builtins, objects that equal everything and
rewritten files change nothing. The verdict travels in a pipe that the program has closed before its first line runs;
it is read only if the tests ran to their end, called the program at least once, every call was answered, and no limit
was reached. What a program can do is return the right values.

**What a program can reach.** In bubblewrap's namespaces: a network without interfaces; a root file system
of a few read-only system folders, this interpreter and one small in-memory folder; only the processes of its own run,
which the kernel kills together when the supervisor ends. In every case: a new minimal environment, an unused user
number where the caller is root, no capabilities, no new privileges, no system call that makes memory outside processes,
sockets or namespaces (`syscalls`), no files but those (`files`), limits on processor time, wall time, address space,
resident memory of all its processes together, processes, file size, open files, and output that goes nowhere.

**What is not defended.** Bugs of the kernel in what the filter lets through. Between two looks at its memory a run can
write some more; pipes and socket pairs hold up to 208 MiB. SECURITY.md has all bounds, and what is missing where the
machine refuses namespaces or the kernel lacks one of the walls; every result says when that was so. The tests are the
dataset's: they are held to the same limits, but trusted not to lie.

**What differs from running program and tests in one process.** An answer tells what has become of the arguments, so a
test sees them changed in place (`values`). Neither side can be handed a function, or an object of a class that the
prompt does not define; a test that needs it fails, and the note says so.
"""
