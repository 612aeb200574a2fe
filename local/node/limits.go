package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"ebb.dev/ebb/local/shim"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	v1 "k8s.io/api/core/v1"
)

// Files of a run's folder that are about its limits.
const (
	groupsFile = "cgroups.json" // where its control groups are, by controller
	oomFile    = "oom"          // it is there when the kernel has killed a process of it for its memory
)

// cpuPeriod is in microseconds, the kernel's default.
const cpuPeriod = 100_000

// limits are the container's, as control groups have them; nil when it has none.
func limits(r v1.ResourceRequirements) *cgroups.Resources {
	out := &cgroups.Resources{SkipDevices: true}
	any := false
	if q, ok := r.Limits[v1.ResourceMemory]; ok && q.Value() > 0 {
		out.Memory, any = q.Value(), true
		out.MemorySwap = q.Value() // and no swap beyond
	}
	if q, ok := r.Limits[v1.ResourceCPU]; ok && q.MilliValue() > 0 {
		out.CpuPeriod, out.CpuQuota, any = cpuPeriod, max(q.MilliValue()*cpuPeriod/1000, 1000), true
	}
	if q, ok := r.Requests[v1.ResourceCPU]; ok && any {
		out.CpuShares = uint64(max(q.MilliValue()*1024/1000, 2)) //nolint:gosec // positive
	}
	if !any {
		return nil
	}
	return out
}

// makeGroups makes the control groups of a run and gives the files that its processes
// join them by. Their places are on disk, for whoever ends the run.
func makeGroups(dir, name string, r *cgroups.Resources) (join []string, err error) {
	m, err := manager.New(&cgroups.Cgroup{Path: "ebb-" + name, Resources: r})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = m.Destroy()
		}
	}()
	if err := m.Apply(-1); err != nil { // only made: nobody joins yet
		return nil, err
	}
	if r.MemorySwap != 0 {
		if err := m.Set(r); err != nil { // a kernel that does not count swap
			r.MemorySwap = 0
		}
	}
	if err := m.Set(r); err != nil {
		return nil, err
	}
	paths := m.GetPaths()
	for controller, p := range paths {
		switch controller {
		case "", "memory", "cpu", "cpuacct", "pids":
			join = append(join, filepath.Join(p, cgroups.CgroupProcesses))
		}
	}
	slices.Sort(join)
	join = slices.Compact(join) // cpu and cpuacct may be one
	b, err := json.Marshal(paths)
	if err != nil {
		return nil, err
	}
	return join, os.WriteFile(filepath.Join(dir, groupsFile), b, 0o600)
}

// closeGroups notes whether a run that has ended was killed for its memory, and removes its
// control groups. Without any there is nothing to do.
func closeGroups(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, groupsFile))
	if err != nil {
		return nil //nolint:nilerr // it has none
	}
	var paths map[string]string
	if err := json.Unmarshal(b, &paths); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, groupsFile), err)
	}
	m, err := manager.NewWithPaths(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, paths)
	if err != nil {
		return err
	}
	if n, err := m.OOMKillCount(); err == nil && n > 0 {
		if err := os.WriteFile(filepath.Join(dir, oomFile), nil, 0o600); err != nil {
			return err
		}
	}
	if err := m.Destroy(); err != nil {
		return err
	}
	return os.Remove(filepath.Join(dir, groupsFile))
}

// tryLimits finds out whether this machine lets this user limit processes, by limiting one;
// the error is why not.
func tryLimits(ctx context.Context, binary, data string) error {
	dir, err := os.MkdirTemp(data, ".limits-")
	if err != nil {
		return err
	}
	defer func() { _ = shim.Remove(dir) }()
	defer func() { _ = closeGroups(dir) }()
	join, err := makeGroups(dir, filepath.Base(dir)[1:], &cgroups.Resources{SkipDevices: true, Memory: 64 << 20, CpuPeriod: cpuPeriod, CpuQuota: cpuPeriod})
	if err != nil {
		return err
	}
	if len(join) == 0 {
		return fmt.Errorf("no control group of this machine has the controllers memory and cpu")
	}
	c, err := shim.Start(ctx, binary, dir, shim.Spec{Rootfs: "/", Args: []string{binary, "probe"}, Cgroups: join})
	if err != nil {
		return err
	}
	_, err = c.Wait(ctx)
	return err
}

// limit has the run's processes held to the container's limits, where the machine lets it.
func (c *container) limit(dir string, s *shim.Spec) error {
	r := limits(c.spec.Resources)
	if r == nil {
		return nil
	}
	if why := c.p.n.noLimits; why != "" {
		c.say("LimitsNotEnforced", "container %s is not held to its limits: %s", c.spec.Name, why)
		return nil
	}
	if err := closeGroups(dir); err != nil { // of an attempt that did not get as far as a start
		return err
	}
	join, err := makeGroups(dir, fmt.Sprintf("%s-%s-%s", c.p.uid, c.spec.Name, filepath.Base(dir)), r)
	if err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	s.Cgroups = join
	return nil
}
