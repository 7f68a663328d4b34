//! Every system call that a program in a sandbox may make, and why. What is not here does not exist for it (`ENOSYS`), what is listed
//! under `denied` is refused (`EPERM`), so that a program that asks for it can say so.

/// A line of the table: calls and the reason.
pub(super) type Line = (&'static [i64], &'static str);

/// `name name … | reason;` checked against the kernel's names at compile time.
macro_rules! lines {
    ($($($name:ident)+ | $reason:literal;)*) => {
        &[$((&[$(libc::$name),+], $reason)),*]
    };
}

/// Allowed at both levels.
#[rustfmt::skip]
pub(super) const ALLOWED: &[Line] = lines! {
    SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev SYS_preadv2 SYS_pwritev2 SYS_lseek
        | "bytes of files already open";
    SYS_sendfile SYS_splice SYS_tee SYS_vmsplice SYS_copy_file_range | "copies between open files; checked like read and write";
    SYS_openat SYS_openat2 SYS_close SYS_close_range SYS_dup SYS_dup3 SYS_fcntl SYS_flock | "open files; the mount namespace holds only the sandbox";
    SYS_ioctl | "terminals and sockets; pushing input into a terminal, and making subvolumes, are refused by argument";
    SYS_fsync SYS_fdatasync SYS_sync SYS_syncfs SYS_fallocate SYS_ftruncate SYS_truncate SYS_fadvise64 SYS_readahead
        | "file contents; bound by the disk limit";
    SYS_newfstatat SYS_fstat SYS_statx SYS_statfs SYS_fstatfs SYS_faccessat SYS_faccessat2 SYS_readlinkat SYS_getdents64 SYS_getcwd
        | "looking at files that can be seen";
    SYS_mkdirat SYS_unlinkat SYS_renameat SYS_renameat2 SYS_linkat SYS_symlinkat | "names in the sandbox's own writable layer";
    SYS_mknodat | "pipes and sockets; device nodes need a capability that nobody has";
    SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_utimensat SYS_umask | "owners and modes, as far as capabilities go";
    SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr SYS_setxattr SYS_lsetxattr SYS_fsetxattr
        SYS_removexattr SYS_lremovexattr SYS_fremovexattr | "attributes; security ones are checked against the user namespace";
    SYS_chdir SYS_fchdir | "the current directory";
    SYS_chroot | "package managers and build tools; needs a capability that only level root has, and its root is ours";
    SYS_pipe2 SYS_eventfd2 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_ppoll SYS_pselect6
        | "waiting; all state belongs to the process";
    SYS_signalfd4 SYS_timerfd_create SYS_timerfd_gettime SYS_timerfd_settime | "signals and timers as files";
    SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch | "watching files; of each sandbox so many";
    SYS_memfd_create | "nameless files; charged to the sandbox's memory";
    SYS_mmap SYS_munmap SYS_mremap SYS_mprotect SYS_brk SYS_madvise SYS_process_madvise SYS_msync SYS_mincore SYS_mlock SYS_mlock2 SYS_mlockall
        SYS_munlock SYS_munlockall SYS_remap_file_pages SYS_mseal | "the process's own memory; bound by the memory limit";
    SYS_membarrier SYS_rseq SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect | "runtimes; the process's own memory";
    SYS_get_mempolicy SYS_set_mempolicy SYS_mbind SYS_set_mempolicy_home_node SYS_migrate_pages SYS_move_pages
        | "databases and numeric libraries; own memory, others need a capability";
    SYS_execve SYS_execveat | "starting programs; the filter goes along";
    SYS_clone | "processes and threads; namespaces are refused by argument, counts by the process limit";
    SYS_exit SYS_exit_group SYS_wait4 SYS_waitid | "ending and being waited for";
    SYS_set_tid_address SYS_set_robust_list SYS_get_robust_list SYS_futex SYS_futex_waitv SYS_gettid | "threads";
    SYS_getpid SYS_getppid SYS_getpgid SYS_setpgid SYS_getsid SYS_setsid | "process groups inside the process namespace";
    SYS_kill SYS_tkill SYS_tgkill SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo SYS_pidfd_open SYS_pidfd_send_signal SYS_pidfd_getfd
        | "signals and handles; the process namespace holds only the sandbox";
    SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_sigaltstack
        SYS_restart_syscall | "the process's own signals";
    SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_kcmp
        | "debuggers; only processes of the sandbox can be named, and the kernel compares credentials";
    SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getresuid SYS_getresgid SYS_getgroups | "who one is";
    SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setfsuid SYS_setfsgid SYS_setgroups
        | "changing users; the user namespace has only the sandbox's ids";
    SYS_capget SYS_capset | "giving capabilities up; none can be gained";
    SYS_prctl | "names, dumpability, no_new_privs and the like; the process's own";
    SYS_seccomp | "programs that confine themselves further";
    SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self | "programs that confine themselves further";
    SYS_getrusage SYS_times | "what processes have used";
    SYS_getpriority SYS_setpriority SYS_ioprio_get SYS_ioprio_set SYS_sched_yield SYS_sched_getaffinity SYS_sched_setaffinity
        SYS_sched_getparam SYS_sched_setparam SYS_sched_getscheduler SYS_sched_setscheduler SYS_sched_getattr SYS_sched_setattr
        SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_sched_rr_get_interval SYS_getcpu
        | "scheduling of own processes; the processor limit stands above it, real time needs a capability";
    SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_gettimeofday SYS_nanosleep SYS_getitimer SYS_setitimer
        SYS_timer_create SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime | "reading clocks and waiting for them";
    SYS_uname SYS_sysinfo SYS_getrandom | "facts about the machine that are not secret";
    SYS_personality | "without address randomisation, for debuggers; other personalities are refused by argument";
    SYS_socket SYS_socketpair | "sockets; families are refused by argument";
    SYS_bind SYS_connect SYS_listen SYS_accept SYS_accept4 SYS_getsockname SYS_getpeername SYS_getsockopt SYS_setsockopt SYS_shutdown
        SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg SYS_recvmmsg | "sockets; the network namespace decides what they reach";
    SYS_shmget SYS_shmat SYS_shmdt SYS_shmctl SYS_semget SYS_semop SYS_semtimedop SYS_semctl SYS_msgget SYS_msgsnd SYS_msgrcv SYS_msgctl
        | "System V IPC; the sandbox has its own";
    SYS_mq_open SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify SYS_mq_getsetattr | "message queues; the sandbox has its own";
};

/// Calls that only this architecture still has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
pub(super) const OF_THE_ARCHITECTURE: &[Line] = lines! {
    SYS_open SYS_creat SYS_access SYS_stat SYS_lstat SYS_readlink SYS_getdents SYS_mkdir SYS_rmdir SYS_unlink SYS_rename SYS_link
        SYS_symlink SYS_mknod SYS_chmod SYS_chown SYS_lchown SYS_utime SYS_utimes SYS_futimesat SYS_fchmodat2 SYS_sync_file_range SYS_dup2
        | "older forms of calls above";
    SYS_pipe SYS_eventfd SYS_signalfd SYS_epoll_create SYS_epoll_wait SYS_poll SYS_select SYS_inotify_init SYS_pause SYS_alarm SYS_time
        | "older forms of calls above";
    SYS_fork SYS_vfork | "older forms of clone, which take no namespaces";
    SYS_getpgrp SYS_setrlimit SYS_getrlimit | "older forms of calls above";
    SYS_arch_prctl SYS_get_thread_area SYS_set_thread_area SYS_modify_ldt | "thread-local storage and old runtimes; the process's own segments";
};

/// This architecture has only the new forms.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const OF_THE_ARCHITECTURE: &[Line] = &[];

/// Refused with `EPERM`. They change the machine, cross the walls, or have been the way through them too often.
#[rustfmt::skip]
pub(super) const DENIED: &[Line] = lines! {
    SYS_mount SYS_umount2 SYS_pivot_root SYS_open_tree SYS_move_mount SYS_fsopen SYS_fsconfig SYS_fsmount SYS_fspick SYS_mount_setattr
        | "the mount table is the wall";
    SYS_unshare SYS_setns | "namespaces below ours would give capabilities over a large part of the kernel";
    SYS_bpf SYS_perf_event_open SYS_userfaultfd SYS_lookup_dcookie | "large kernel surfaces, often the first step of an exploit";
    SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register | "does calls without this filter seeing them";
    SYS_keyctl SYS_add_key SYS_request_key | "keyrings are shared by uid across namespaces";
    SYS_init_module SYS_finit_module SYS_delete_module SYS_kexec_load SYS_kexec_file_load SYS_reboot | "the kernel itself";
    SYS_swapon SYS_swapoff SYS_acct SYS_quotactl SYS_quotactl_fd SYS_syslog SYS_vhangup | "administration of the machine";
    SYS_settimeofday SYS_clock_settime SYS_clock_adjtime SYS_adjtimex SYS_sethostname SYS_setdomainname | "clocks and names of the machine";
    SYS_open_by_handle_at SYS_name_to_handle_at | "opens files past the mount namespace";
    SYS_fanotify_init SYS_fanotify_mark | "watches whole file systems";
    SYS_process_mrelease SYS_memfd_secret | "memory that the memory limit cannot reclaim, or reclaim forced on others";
};
