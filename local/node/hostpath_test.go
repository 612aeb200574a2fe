package node

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestHostPathTypes(t *testing.T) {
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "file"), filepath.Join(dir, "socket")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	is := map[string]v1.HostPathType{dir: v1.HostPathDirectory, file: v1.HostPathFile, socket: v1.HostPathSocket, "/dev/null": v1.HostPathCharDev}
	for path, want := range is {
		for _, kind := range []v1.HostPathType{v1.HostPathUnset, v1.HostPathDirectory, v1.HostPathFile, v1.HostPathSocket, v1.HostPathCharDev, v1.HostPathBlockDev} {
			err := hostPath(&v1.HostPathVolumeSource{Path: path, Type: &kind})
			if good := kind == v1.HostPathUnset || kind == want; good != (err == nil) {
				t.Errorf("%s as %q: %v", path, kind, err)
			}
		}
	}
	for _, kind := range []v1.HostPathType{v1.HostPathDirectoryOrCreate, v1.HostPathFileOrCreate} {
		path := filepath.Join(dir, string(kind))
		if err := hostPath(&v1.HostPathVolumeSource{Path: path, Type: &kind}); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(path); err != nil || info.IsDir() != (kind == v1.HostPathDirectoryOrCreate) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
