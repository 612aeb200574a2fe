package node

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestPressure(t *testing.T) {
	fine := readings{memory: 1 << 30, disk: 50 << 30, diskTotal: 100 << 30, files: 500, filesTotal: 1000, processes: 100, mostPIDs: 32768}
	with := func(f func(*readings)) readings { r := fine; f(&r); return r }
	for name, x := range map[string]struct {
		r      readings
		under  v1.NodeConditionType
		excess uint64
	}{
		"nothing":                    {fine, "", 0},
		"memory":                     {with(func(r *readings) { r.memory = 99 << 20 }), v1.NodeMemoryPressure, 0},
		"disk":                       {with(func(r *readings) { r.disk = 9 << 30 }), v1.NodeDiskPressure, 11 << 30},
		"images before the pressure": {with(func(r *readings) { r.disk = 14 << 30 }), "", 6 << 30},
		"inodes":                     {with(func(r *readings) { r.files = 49 }), v1.NodeDiskPressure, 0},
		"processes":                  {with(func(r *readings) { r.processes = 32000 }), v1.NodePIDPressure, 0},
		"what cannot be read":        {readings{}, "", 0},
	} {
		for _, c := range x.r.conditions() {
			if want := c.Type == x.under; (c.Status == v1.ConditionTrue) != want {
				t.Errorf("%s: %s is %s", name, c.Type, c.Status)
			}
		}
		if got := x.r.excess(); got != x.excess {
			t.Errorf("%s: %d bytes of images are to go, want %d", name, got, x.excess)
		}
	}
	if r := read(t.TempDir()); r.memory == 0 || r.diskTotal == 0 || r.processes == 0 || r.mostPIDs == 0 {
		t.Errorf("of this machine: %+v", r)
	}
}
