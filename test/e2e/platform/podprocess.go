package platform

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// PodProcesses are the processes of a pod's first container: the program, and the small one over it.
type PodProcesses struct{ Program, Shim int }

// Processes of a pod, as the node has written them down.
func (p *Platform) Processes(t testing.TB, pod *corev1.Pod) PodProcesses {
	t.Helper()
	p.Embedded(t, "a pod is a process here")
	pattern := p.dir.Path("node", "pods", string(pod.UID), "containers", pod.Spec.Containers[0].Name, "*", "state.json")
	found, _ := filepath.Glob(pattern)
	last, path := -1, ""
	for _, f := range found {
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil && n > last {
			last, path = n, f
		}
	}
	var state struct{ Program, Shim struct{ PID int } }
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &state)
	}
	if err != nil || state.Program.PID <= 0 || state.Shim.PID <= 0 {
		t.Fatalf("processes of pod %s: nothing in %s (%v)", pod.Name, pattern, err)
	}
	return PodProcesses{state.Program.PID, state.Shim.PID}
}

// SignalPod sends a signal to a pod's program.
func (p *Platform) SignalPod(t testing.TB, pod *corev1.Pod, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(p.Processes(t, pod).Program, signal); err != nil {
		t.Fatalf("%v to the process of pod %s: %v", signal, pod.Name, err)
	}
}

// PodFolders are the uids of the pods that have a process, or files, on the node.
func (p *Platform) PodFolders() map[types.UID]bool {
	out := map[types.UID]bool{}
	folders, _ := filepath.Glob(p.dir.Path("node", "pods", "*"))
	for _, f := range folders {
		out[types.UID(filepath.Base(f))] = true
	}
	return out
}
