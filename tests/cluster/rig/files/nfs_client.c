/*
 * mount.nfs for kernels that have no NFS client: NFSv3 by libnfs, shown by FUSE. Called as mount(8) does:
 *
 *     mount.nfs SERVER:PATH FOLDER [-o port=…,mountport=…,ro,…]
 *
 * Every request goes out under the ids of whoever made it, as a kernel's do: the server decides, and root_squash means
 * what it says. A server that is away is waited for, as with the option `hard`. One thread; locks hold within a node.
 * Nothing is cached but the data of open files, so that a folder replaced by a link is seen as one at once.
 */
#define FUSE_USE_VERSION 35
#define _FILE_OFFSET_BITS 64
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <nfsc/libnfs.h>
/* After the former: it needs what that brings. */
#include <nfsc/libnfs-zdr.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* As many further groups as AUTH_SYS carries. */
enum { MOST_GROUPS = 16, MOUNT_FAILED = 32 };

struct ids {
    uint32_t uid, gid, count, groups[MOST_GROUPS];
};

/* An open file, used under the ids that opened it: the kernel reads and writes for nobody in particular. */
struct file {
    struct nfsfh *handle;
    struct ids ids;
};

static struct nfs_context *nfs;

/* Before libc's: where a server refuses, libnfs asks again at once, with all of a core, for as long as it is away. */
int connect(int socket, const struct sockaddr *address, socklen_t length) {
    static time_t last;
    time_t now = time(NULL);
    if (now - last < 2)
        usleep(200000);
    last = now;
    return (int)syscall(SYS_connect, socket, address, length);
}

static int act_as(const struct ids *ids) {
    static struct ids current;
    static int known;
    if (known && memcmp(&current, ids, sizeof current) == 0)
        return 0;
    struct ids wanted = *ids;
    struct AUTH *auth = libnfs_authunix_create("mlmp-test", wanted.uid, wanted.gid, wanted.count, wanted.groups);
    if (!auth)
        return -ENOMEM;
    nfs_set_auth(nfs, auth);
    current = wanted;
    known = 1;
    return 0;
}

static struct ids caller(void) {
    struct ids ids;
    memset(&ids, 0, sizeof ids);
    ids.uid = fuse_get_context()->uid;
    ids.gid = fuse_get_context()->gid;
    gid_t groups[MOST_GROUPS];
    int count = fuse_getgroups(MOST_GROUPS, groups);
    if (count < 0)
        count = 0;
    ids.count = count > MOST_GROUPS ? MOST_GROUPS : (uint32_t)count;
    for (uint32_t i = 0; i < ids.count; i++)
        ids.groups[i] = groups[i];
    return ids;
}

#define AS_CALLER() do { struct ids ids_ = caller(); if (act_as(&ids_)) return -ENOMEM; } while (0)

static struct file *opened(struct fuse_file_info *info) {
    struct file *file = info ? (struct file *)(uintptr_t)info->fh : NULL;
    if (file)
        act_as(&file->ids);
    return file;
}

static int keep(struct nfsfh *handle, const struct ids *ids, struct fuse_file_info *info) {
    struct file *file = malloc(sizeof *file);
    if (!file) {
        nfs_close(nfs, handle);
        return -ENOMEM;
    }
    file->handle = handle;
    file->ids = *ids;
    info->fh = (uintptr_t)file;
    return 0;
}

static int on_getattr(const char *path, struct stat *to, struct fuse_file_info *info) {
    struct nfs_stat_64 from;
    struct file *file = opened(info);
    if (!file)
        AS_CALLER();
    int status = file ? nfs_fstat64(nfs, file->handle, &from) : nfs_lstat64(nfs, path, &from);
    if (status < 0)
        return status;
    memset(to, 0, sizeof *to);
    to->st_ino = from.nfs_ino;
    to->st_mode = from.nfs_mode;
    to->st_nlink = from.nfs_nlink;
    to->st_uid = from.nfs_uid;
    to->st_gid = from.nfs_gid;
    to->st_size = from.nfs_size;
    to->st_blksize = from.nfs_blksize;
    to->st_blocks = from.nfs_blocks;
    to->st_rdev = from.nfs_rdev;
    to->st_atim = (struct timespec){from.nfs_atime, from.nfs_atime_nsec};
    to->st_mtim = (struct timespec){from.nfs_mtime, from.nfs_mtime_nsec};
    to->st_ctim = (struct timespec){from.nfs_ctime, from.nfs_ctime_nsec};
    return 0;
}

static int on_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *info,
                      enum fuse_readdir_flags flags) {
    (void)offset, (void)info, (void)flags;
    AS_CALLER();
    struct nfsdir *folder;
    int status = nfs_opendir(nfs, path, &folder);
    if (status < 0)
        return status;
    for (struct nfsdirent *entry; (entry = nfs_readdir(nfs, folder));)
        fill(buffer, entry->name, NULL, 0, 0);
    nfs_closedir(nfs, folder);
    return 0;
}

static int on_open(const char *path, struct fuse_file_info *info) {
    AS_CALLER();
    struct ids ids = caller();
    struct nfsfh *handle;
    int status = nfs_open(nfs, path, info->flags & O_ACCMODE, &handle);
    return status < 0 ? status : keep(handle, &ids, info);
}

static int on_create(const char *path, mode_t mode, struct fuse_file_info *info) {
    AS_CALLER();
    struct ids ids = caller();
    struct nfsfh *handle;
    int flags = (info->flags & (O_ACCMODE | O_EXCL)) | O_CREAT;
    int status = nfs_open2(nfs, path, flags, mode & 07777, &handle);
    return status < 0 ? status : keep(handle, &ids, info);
}

static int on_read(const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *info) {
    (void)path;
    return nfs_pread(nfs, opened(info)->handle, offset, size, buffer);
}

static int on_write(const char *path, const char *buffer, size_t size, off_t offset, struct fuse_file_info *info) {
    (void)path;
    return nfs_pwrite(nfs, opened(info)->handle, offset, size, (void *)buffer);
}

static int on_release(const char *path, struct fuse_file_info *info) {
    (void)path;
    struct file *file = opened(info);
    nfs_close(nfs, file->handle);
    free(file);
    return 0;
}

static int on_fsync(const char *path, int data_only, struct fuse_file_info *info) {
    (void)path, (void)data_only;
    return nfs_fsync(nfs, opened(info)->handle);
}

static int on_truncate(const char *path, off_t size, struct fuse_file_info *info) {
    struct file *file = opened(info);
    if (file)
        return nfs_ftruncate(nfs, file->handle, size);
    AS_CALLER();
    return nfs_truncate(nfs, path, size);
}

static int on_mknod(const char *path, mode_t mode, dev_t device) {
    AS_CALLER();
    if (!S_ISREG(mode))
        return nfs_mknod(nfs, path, mode, device);
    struct nfsfh *handle;
    int status = nfs_open2(nfs, path, O_CREAT | O_EXCL | O_RDWR, mode & 07777, &handle);
    return status < 0 ? status : nfs_close(nfs, handle);
}

static int on_unlink(const char *path) {
    AS_CALLER();
    return nfs_unlink(nfs, path);
}

static int on_mkdir(const char *path, mode_t mode) {
    AS_CALLER();
    return nfs_mkdir2(nfs, path, mode & 07777);
}

static int on_rmdir(const char *path) {
    AS_CALLER();
    return nfs_rmdir(nfs, path);
}

static int on_rename(const char *from, const char *to, unsigned flags) {
    if (flags)
        return -EINVAL;
    AS_CALLER();
    return nfs_rename(nfs, from, to);
}

static int on_chmod(const char *path, mode_t mode, struct fuse_file_info *info) {
    (void)info;
    AS_CALLER();
    return nfs_lchmod(nfs, path, mode & 07777);
}

static int on_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *info) {
    (void)info;
    AS_CALLER();
    struct nfs_stat_64 now;
    int status = nfs_lstat64(nfs, path, &now);
    if (status < 0)
        return status;
    return nfs_lchown(nfs, path, uid == (uid_t)-1 ? (int)now.nfs_uid : (int)uid,
                      gid == (gid_t)-1 ? (int)now.nfs_gid : (int)gid);
}

static int on_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *info) {
    (void)info;
    AS_CALLER();
    struct nfs_stat_64 before;
    int status = nfs_lstat64(nfs, path, &before);
    if (status < 0)
        return status;
    struct timespec now, old[2] = {{before.nfs_atime, before.nfs_atime_nsec}, {before.nfs_mtime, before.nfs_mtime_nsec}};
    clock_gettime(CLOCK_REALTIME, &now);
    struct timeval wanted[2];
    for (int i = 0; i < 2; i++) {
        struct timespec time = times[i];
        if (time.tv_nsec == UTIME_NOW)
            time = now;
        else if (time.tv_nsec == UTIME_OMIT)
            time = old[i];
        wanted[i] = (struct timeval){time.tv_sec, time.tv_nsec / 1000};
    }
    return nfs_lutimes(nfs, path, wanted);
}

static int on_symlink(const char *target, const char *path) {
    AS_CALLER();
    return nfs_symlink(nfs, target, path);
}

static int on_readlink(const char *path, char *buffer, size_t size) {
    AS_CALLER();
    int status = nfs_readlink(nfs, path, buffer, size);
    return status < 0 ? status : 0;
}

static int on_link(const char *from, const char *to) {
    AS_CALLER();
    return nfs_link(nfs, from, to);
}

static int on_statfs(const char *path, struct statvfs *to) {
    AS_CALLER();
    return nfs_statvfs(nfs, path, to);
}

static void *on_init(struct fuse_conn_info *connection, struct fuse_config *config) {
    (void)connection;
    config->use_ino = 1;
    config->attr_timeout = config->entry_timeout = config->negative_timeout = 0;
    return NULL;
}

static const struct fuse_operations operations = {
    .init = on_init, .getattr = on_getattr, .readdir = on_readdir, .open = on_open, .create = on_create,
    .read = on_read, .write = on_write, .release = on_release, .fsync = on_fsync, .truncate = on_truncate,
    .mknod = on_mknod, .unlink = on_unlink, .mkdir = on_mkdir, .rmdir = on_rmdir, .rename = on_rename,
    .chmod = on_chmod, .chown = on_chown, .utimens = on_utimens, .symlink = on_symlink, .readlink = on_readlink,
    .link = on_link, .statfs = on_statfs,
};

static int fail(const char *what, const char *why) {
    fprintf(stderr, "mount.nfs: %s: %s\n", what, why);
    return MOUNT_FAILED;
}

/* The number of `name=…` among the options, else the default. */
static int number(const char *options, const char *name, int usual) {
    char *copy = strdup(options), *rest = copy;
    for (char *word; (word = strsep(&rest, ","));)
        if (strncmp(word, name, strlen(name)) == 0 && word[strlen(name)] == '=')
            usual = atoi(word + strlen(name) + 1);
    free(copy);
    return usual;
}

static int read_only(const char *options) {
    char *copy = strdup(options), *rest = copy;
    int found = 0;
    for (char *word; (word = strsep(&rest, ","));)
        found |= strcmp(word, "ro") == 0;
    free(copy);
    return found;
}

int main(int count, char **words) {
    const char *options = "", *source = NULL, *folder = NULL;
    for (int i = 1; i < count; i++) {
        if (strcmp(words[i], "-o") == 0 && i + 1 < count)
            options = words[++i];
        else if (words[i][0] != '-' && !source)
            source = words[i];
        else if (words[i][0] != '-')
            folder = words[i];
    }
    const char *path = source ? strchr(source, ':') : NULL;
    if (!folder || !path)
        return fail("usage", "mount.nfs SERVER:PATH FOLDER [-o OPTIONS]");

    char url[4096], shown[4096];
    snprintf(url, sizeof url, "nfs://%.*s%s?version=3&auto-traverse-mounts=0&dircache=0&autoreconnect=-1"
             "&nfsport=%d&mountport=%d", (int)(path - source), source, path + 1, number(options, "port", 2049),
             number(options, "mountport", 20048));
    snprintf(shown, sizeof shown, "allow_other,default_permissions,subtype=nfs,fsname=%s%s", source,
             read_only(options) ? ",ro" : "");
    nfs = nfs_init_context();
    struct nfs_url *parsed = nfs ? nfs_parse_url_dir(nfs, url) : NULL;
    if (!parsed)
        return fail(source, "no such address");
    /* The kernel has taken it off already. */
    nfs_umask(nfs, 0);
    if (nfs_mount(nfs, parsed->server, parsed->path))
        return fail(source, nfs_get_error(nfs));
    char *arguments[] = {"mount.nfs", (char *)folder, "-s", "-o", shown, NULL};
    /* Returns here once the folder shows the export; the rest goes on in the background. */
    return fuse_main(5, arguments, &operations, NULL) ? MOUNT_FAILED : 0;
}
