package bridge

import (
	"testing"
	"testing/fstest"
)

func TestTuneGC_containerMemory(t *testing.T) {
	files := func(list map[string]string) fstest.MapFS {
		fs := fstest.MapFS{}
		for name, text := range list {
			fs[name] = &fstest.MapFile{Data: []byte(text)}
		}
		return fs
	}
	for name, test := range map[string]struct {
		files fstest.MapFS
		want  int64 // 0 for none
	}{
		"not Linux":   {files(nil), 0},
		"a container": {files(map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "268435456\n"}), 228_170_090},
		"no limit":    {files(map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}), 0},
		"a service": {files(map[string]string{
			"proc/self/cgroup": "0::/system.slice/acsbridge.service\n",
			"sys/fs/cgroup/system.slice/acsbridge.service/memory.max": "max\n",
			"sys/fs/cgroup/system.slice/memory.max":                   "1073741824\n",
			"sys/fs/cgroup/memory.max":                                "2147483648\n",
		}), 912_680_530},
		"another namespace": {files(map[string]string{"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/memory.max": "max\n"}), 0},
		"version 1":         {files(map[string]string{"proc/self/cgroup": "4:memory:/a\n", "sys/fs/cgroup/memory.max": "1\n"}), 0},
	} {
		got, found := memoryLimit(test.files)
		if found != (test.want != 0) || found && got != test.want {
			t.Errorf("%s: %d, %v, want %d", name, got, found, test.want)
		}
	}
}
