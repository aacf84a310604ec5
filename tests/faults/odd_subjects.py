"""More subjects of test_isolation.py: what they do to their files, signals, limits, memory and supervisor.

Each runs after `import os, signal, subprocess, sys, time`, as those do.
"""

IN_TIME = ({"seconds": 1}, "stopped after the time limit of 1 s")
BY_MEMORY = ({}, "stopped at the memory limit of 256 MiB")
ENDED = ({}, "ended with exit status 0")
#: in C, without what Python keeps of it
PRCTL = "import ctypes; prctl = ctypes.CDLL(None).prctl"
#: what a subject does → (its code, limits, how the report says that it ended;
#: None: by the end of its supervisor)
ODD = {
    # files
    "closes every file": ("os.closerange(0, 4096); time.sleep(600)", *IN_TIME),
    "closes every file and ends": ("os.closerange(0, 4096); os._exit(0)", *ENDED),
    "puts other files over its streams": (
        "nowhere = os.open(os.devnull, os.O_RDWR)\nfor n in range(3): os.dup2(nowhere, n)\ntime.sleep(600)",
        *IN_TIME,
    ),
    "makes its output its input": ("os.dup2(1, 0); os.dup2(2, 1); time.sleep(600)", *IN_TIME),
    "deletes its working directory and its temporary files": (
        (
            "import shutil, tempfile\nhere = tempfile.mkdtemp(); os.chdir(here); os.rmdir(here)\n"
            "shutil.rmtree(os.environ['TMPDIR']); os._exit(0)"
        ),
        *ENDED,
    ),
    "puts a link in the place of its temporary files": (
        "os.rmdir(os.environ['TMPDIR']); os.symlink(os.environ['GRADTWIN_KEPT'], os.environ['TMPDIR']); os._exit(0)",
        *ENDED,
    ),
    "leaves folders of any depth, links and files that nobody may read": (
        (
            "os.chdir(os.environ['TMPDIR'])\nos.symlink(os.environ['GRADTWIN_KEPT'], 'link')\nopen('a', 'w').close()\n"
            "os.chmod('a', 0)\nfor _ in range(300): os.mkdir('d' * 99); os.chdir('d' * 99)\nopen('b', 'w').close()\n"
            "os.chmod('.', 0); os._exit(0)"
        ),
        *ENDED,
    ),
    "fills the disk with temporary files": (
        (
            "import tempfile\nfor _ in range(64): file, _ = tempfile.mkstemp(); os.write(file, b'x' * 2**20)\n"
            "os._exit(0)"
        ),
        *ENDED,
    ),
    # signals and limits
    "forks wherever a child of it ends": (
        (
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "def fork(*_):\n    if os.fork() == 0: time.sleep(0.05); os._exit(0)\n"
            "signal.signal(signal.SIGCHLD, fork); fork()\nwhile True: time.sleep(1)"
        ),
        *IN_TIME,
    ),
    "limits its own time": (
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass",
        {},
        "killed by SIGKILL",
    ),
    "is ended by its own time": (
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 9))\nwhile True: pass",
        {},
        "killed by SIGXCPU",
    ),
    "is ended by the size of a file": (
        (
            "import resource, tempfile\nresource.setrlimit(resource.RLIMIT_FSIZE, (9, 9))\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nfile, _ = tempfile.mkstemp()\n"
            "for _ in range(2): os.write(file, b'x' * 99)"
        ),
        {},
        "killed by SIGXFSZ",
    ),
    "limits its own files and processes": (
        (
            "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
            "resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)); time.sleep(600)"
        ),
        *IN_TIME,
    ),
    "is the first to be killed and the last to run": (
        "open('/proc/self/oom_score_adj', 'w').write('1000'); os.nice(19); os.abort()",
        {},
        "killed by SIGABRT",
    ),
    "ends with 0 whatever comes": (
        "import atexit; atexit.register(os._exit, 0); sys.stdout.write('{\"name\"'); raise SystemExit(3)",
        *ENDED,
    ),
    # memory
    "eats memory in files that have no name": (
        "for _ in range(64): os.write(os.memfd_create('x'), b'x' * 2**23)\ntime.sleep(600)",
        *BY_MEMORY,
    ),
    "eats memory in one file that has no name": (
        "file = os.memfd_create('x')\nfor _ in range(64): os.write(file, b'x' * 2**23)\ntime.sleep(600)",
        *BY_MEMORY,
    ),
    "eats memory in the stacks of threads": (
        (
            "import ctypes, threading\nthreading.stack_size(2**25)\n"
            "def deep(): held = (ctypes.c_char * 2**23)(); ctypes.memset(held, 1, 2**23); time.sleep(600)\n"
            "for _ in range(48): threading.Thread(target=deep).start()\ntime.sleep(600)"
        ),
        *BY_MEMORY,
    ),
    # its supervisor
    "adopts orphans itself": (
        (
            f"{PRCTL}; prctl(36, 1, 0, 0, 0)\nif os.fork() == 0:\n    os.setsid()\n    os.fork() and os._exit(0)\n"
            "    time.sleep(600)\ntime.sleep(0.3); os._exit(0)"
        ),
        *ENDED,
    ),
    "kills its supervisor and does not end with it": (
        f"{PRCTL}; prctl(1, 0, 0, 0, 0); os.kill(os.getppid(), 9); time.sleep(600)",
        {},
        "stopped, for the process that supervises it was killed by SIGKILL",
    ),
    "kills its supervisor and leaves a daemon": (
        (
            f"{PRCTL}; prctl(1, 0, 0, 0, 0)\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\n"
            "time.sleep(0.3); os.kill(os.getppid(), 9); os._exit(0)"
        ),
        {},
        "stopped, for the process that supervises it was killed by SIGKILL",
    ),
    "traces its supervisor": (
        "import ctypes; ctypes.CDLL(None).ptrace(16, os.getppid(), None, None); time.sleep(600)",
        {"seconds": 1},
        None,
    ),
    "stops its supervisor and does not end with it": (
        f"{PRCTL}; prctl(1, 0, 0, 0, 0); os.kill(os.getppid(), signal.SIGSTOP); time.sleep(600)",
        {"seconds": 1},
        None,
    ),
    "forges how it ended": (
        (
            'open(f\'/proc/{os.getppid()}/fd/1\', \'w\').write(\'{"status": 0, "limit": "", "stderr": ""}\')\n'
            "os._exit(0)"
        ),
        {},
        None,
    ),
}
