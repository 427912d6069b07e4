package main

import (
	"os"
	"regexp"
)

// dataNames are the names that bridges keep in a data directory, and that of the
// directory which mkfs makes in a volume.
var dataNames = regexp.MustCompile(`^(journal|quarantine|nats|last-start\.json.*|dead-letters.*|demo-key\.pem|lock|lost\+found)$`)

// restrictDataDir takes the rights of other users from a data directory that
// was there before: a volume of an earlier image has mode 0755. One that holds
// anything else, such as /tmp or a home directory, is not ours alone and stays as
// it is; what the bridge keeps there has modes of its own. So it is when the
// directory belongs to another user, as a volume of Kubernetes does.
func restrictDataDir(dir string) {
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if !dataNames.MatchString(entry.Name()) {
			return
		}
	}
	_ = os.Chmod(dir, 0o700)
}
