package datadir

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// fileSystems are those that matter for a journal, by their magic number (statfs(2)).
var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", 0x2fc12fc1: "zfs",
	unix.TMPFS_MAGIC: "tmpfs", unix.RAMFS_MAGIC: "ramfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	unix.NFS_SUPER_MAGIC: "nfs", unix.SMB_SUPER_MAGIC: "smb", unix.CIFS_SUPER_MAGIC: "smb", unix.SMB2_SUPER_MAGIC: "smb",
	unix.V9FS_MAGIC: "9p", unix.FUSE_SUPER_MAGIC: "fuse",
}

// FileSystem names the file system of a directory.
func FileSystem(dir string) (string, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "", err
	}
	magic := int64(s.Type) & 0xffffffff
	if name, ok := fileSystems[magic]; ok {
		return name, nil
	}
	return fmt.Sprintf("a file system of type %#x", magic), nil
}
