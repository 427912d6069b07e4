// Package running lets commands find the demos and the bridges that run on this machine
// for the same user. Each of them has a state file, for its owner alone, in a directory
// of the user. A lock beside it ends with the process, however that ends, so that the
// file of a dead process is recognised and removed.
package running

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/acsbridge/acsbridge/internal/datadir"
)

// State says where the parts of a process are. It holds names of files with secrets, and
// no secret.
type State struct {
	Command string    `json:"command"` // demo or serve
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`

	CallbackURL  string `json:"callbackUrl"`
	EventGridURL string `json:"eventGridUrl"`
	AdminURL     string `json:"adminUrl"`
	DataDir      string `json:"dataDir"`

	NatsURL       string `json:"natsUrl"` // of the embedded server
	Stream        string `json:"stream"`
	SubjectPrefix string `json:"subjectPrefix"`

	// Of a demo: the issuer whose tokens it accepts, and files with the key that signs
	// them and with the callback key. Empty when there is none.
	Issuer          string `json:"issuer,omitempty"`
	Key             string `json:"key,omitempty"`
	CallbackKeyFile string `json:"callbackKeyFile,omitempty"`
}

// Name names a process for people, one of a number that were found.
func Name(s *State, found int) string {
	kind := "bridge"
	if s.Command == "demo" {
		kind = "demo"
	}
	name := fmt.Sprintf("the %s with process id %d", kind, s.PID)
	if found > 1 {
		name += fmt.Sprintf(", the newest of %d that run", found)
	}
	return name
}

const (
	lockSuffix  = ".lock"
	stateSuffix = ".json"
)

// directory returns where the state files of this user are. $XDG_RUNTIME_DIR is empty
// after a restart of the machine (XDG Base Directory Specification).
func directory() (string, error) {
	base := os.Getenv("XDG_RUNTIME_DIR")
	if base == "" {
		var err error
		if base, err = os.UserCacheDir(); err != nil {
			return "", err
		}
	}
	return filepath.Join(base, "acsbridge", "running"), nil
}

// Publish writes the state file of this process, with its process id and the time. It
// returns the function that removes the file.
func Publish(s State) (remove func(), err error) {
	dir, err := directory()
	if err != nil {
		return nil, err
	}
	if err := datadir.Make(dir); err != nil {
		return nil, err
	}
	s.PID, s.Started = os.Getpid(), time.Now()
	file, err := os.CreateTemp(dir, fmt.Sprintf("%s-%d-*%s", s.Command, s.PID, lockSuffix)) // mode 0600
	if err != nil {
		return nil, err
	}
	_ = file.Close()
	lock := flock.New(file.Name(), flock.SetPermissions(0o600))
	state := strings.TrimSuffix(file.Name(), lockSuffix) + stateSuffix
	remove = func() {
		_ = os.Remove(state)
		_ = lock.Unlock() // before the removal, which Windows refuses for an open file
		_ = os.Remove(file.Name())
	}
	ok, err := lock.TryLock()
	if err == nil && !ok {
		err = fmt.Errorf("%s is locked", file.Name())
	}
	text, jsonErr := json.MarshalIndent(s, "", "  ")
	if err = errors.Join(err, jsonErr); err == nil {
		err = datadir.ReplaceFile(state, append(text, '\n')) // when it is there, it is locked
	}
	if err != nil {
		remove()
		return nil, err
	}
	return remove, nil
}

// Find returns the states of the processes that run, the newest first, and removes the
// files of those that do not.
func Find() ([]State, error) {
	dir, err := directory()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var states []State
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), stateSuffix)
		path := filepath.Join(dir, name)
		if !ok || removeDead(path) {
			continue
		}
		text, err := os.ReadFile(path + stateSuffix)
		var s State
		if err == nil && json.Unmarshal(text, &s) == nil {
			states = append(states, s)
		}
	}
	slices.SortFunc(states, func(a, b State) int { return b.Started.Compare(a.Started) })
	return states, nil
}

// removeDead removes the files of a process that does not hold its lock, and reports
// whether it did. It tries a shared lock, so that it cannot be taken for the process by
// another command that looks at the same time.
func removeDead(path string) bool {
	lock := flock.New(path+lockSuffix, flock.SetFlag(os.O_RDONLY))
	ok, err := lock.TryRLock()
	if !ok && !errors.Is(err, fs.ErrNotExist) {
		_ = lock.Close()
		return false
	}
	_ = os.Remove(path + stateSuffix)
	_ = lock.Unlock()
	_ = os.Remove(path + lockSuffix)
	return true
}
