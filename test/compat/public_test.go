package compat

import (
	"encoding/json"
	"os/exec"
	"sync"
	"testing"
)

// PublicVersion of knative.dev/serving is what Ebb is compared with.
const PublicVersion = "v0.51.0"

// publicModule downloads the public module, verified as every Go module is, and
// returns its folder.
var publicModule = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "mod", "download", "-json", "knative.dev/serving@"+PublicVersion).Output()
	if err != nil {
		return "", err
	}
	var module struct{ Dir string }
	return module.Dir, json.Unmarshal(out, &module)
})

func public(t *testing.T) string {
	t.Helper()
	dir, err := publicModule()
	if err != nil || dir == "" {
		t.Fatalf("download knative.dev/serving@%s: %v", PublicVersion, err)
	}
	return dir
}
