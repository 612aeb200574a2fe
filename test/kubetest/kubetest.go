package kubetest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// Start starts an API server that ends with the test. It skips the test, saying why,
// under -short and when there is no ebb-kube.
func Start(t testing.TB) *rest.Config {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a kube-apiserver; left out under -short")
	}
	kube, err := binary()
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	env := &envtest.Environment{
		CRDDirectoryPaths:        []string{filepath.Join(root(), "config", "crd")},
		ErrorIfCRDPathMissing:    true,
		ControlPlaneStartTimeout: 2 * time.Minute,
		ControlPlaneStopTimeout:  time.Minute,
		AttachControlPlaneOutput: os.Getenv("EBB_KUBE_OUTPUT") != "",
	}
	env.ControlPlane.GetAPIServer().Path = command(t, dir, kube, "kube-apiserver")
	env.ControlPlane.Etcd = &envtest.Etcd{Path: command(t, dir, kube, "etcd")}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	config, err := env.Start()
	if err != nil {
		t.Fatalf("start kube-apiserver and etcd from %s (set EBB_KUBE_OUTPUT=1 to see what they print): %v", kube, err)
	}
	config.QPS = -1
	return config
}

// command writes a program of its own for one sub-command of ebb-kube: envtest wants one file each.
func command(t testing.TB, dir, kube, name string) string {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\nexec '%s' %s \"$@\"\n", kube, name), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func binary() (string, error) {
	if path := os.Getenv("EBB_KUBE"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("EBB_KUBE: %w", err)
		}
		return path, nil
	}
	path := filepath.Join(root(), "bin", "ebb-kube")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no ebb-kube: run `make kube`, or set EBB_KUBE to the program (%w)", err)
	}
	return path, nil
}

// root is the repository's folder.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}
