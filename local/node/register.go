package node

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"runtime"
	"strings"
	"time"

	coordination "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/version"
	"k8s.io/utils/ptr"
)

const (
	leaseSeconds  = 40
	leaseEvery    = 10 * time.Second
	statusEvery   = 5 * time.Minute // when none of its conditions changes
	maxPods       = 1000
	leaseNames    = "kube-node-lease"
	firstAttempts = 200 * time.Millisecond
)

// register makes the Node object and its lease and renews both until the context ends.
func (n *Node) register(ctx context.Context) error {
	for {
		err := n.putNode(ctx)
		if err == nil {
			n.log.Info("node is registered", "node", n.cfg.Name, "kubeletAPI", n.api.Addr().String())
			break
		}
		n.log.Warn("register the node", "error", err)
		if !n.later(firstAttempts, nil) {
			return nil
		}
	}
	t := time.NewTicker(leaseEvery)
	defer t.Stop()
	before := pressures(n.cfg.Data)
	for at := time.Now(); ; {
		if err := n.renew(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("renew the node's lease", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		now := pressures(n.cfg.Data)
		if time.Since(at) >= statusEvery || now != before {
			at, before = time.Now(), now
			if err := n.putNode(ctx); err != nil && ctx.Err() == nil {
				n.log.Warn("update the node", "error", err)
			}
		}
	}
}

// pressures are the conditions' statuses, in one word.
func pressures(data string) (s string) {
	for _, c := range read(data).conditions() {
		s += string(c.Status) + " "
	}
	return s
}

func (n *Node) putNode(ctx context.Context) error {
	nodes := n.client.CoreV1().Nodes()
	old, err := nodes.Get(ctx, n.cfg.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		old, err = nodes.Create(ctx, &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.cfg.Name}}, metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	o := old.DeepCopy()
	if o.Labels == nil {
		o.Labels = map[string]string{}
	}
	maps.Copy(o.Labels, n.labels())
	if o.Annotations == nil {
		o.Annotations = map[string]string{}
	}
	o.Annotations[IsolationAnnotation] = n.iso.String()
	delete(o.Annotations, IsolationReasonAnnotation)
	if n.isoWhy != "" {
		o.Annotations[IsolationReasonAnnotation] = n.isoWhy
	}
	delete(o.Annotations, LimitsAnnotation)
	if n.noLimits != "" {
		o.Annotations[LimitsAnnotation] = n.noLimits
	}
	o.Spec.Taints = nil // it is ready, whatever was thought of it while it was away
	o.Spec.Unschedulable = false
	if o, err = nodes.Update(ctx, o, metav1.UpdateOptions{}); err != nil {
		return err
	}
	o.Status = n.status(o.Status)
	_, err = nodes.UpdateStatus(ctx, o, metav1.UpdateOptions{})
	return err
}

func (n *Node) labels() map[string]string {
	return map[string]string{v1.LabelHostname: n.cfg.Name, v1.LabelOSStable: runtime.GOOS, v1.LabelArchStable: runtime.GOARCH}
}

func (n *Node) status(old v1.NodeStatus) v1.NodeStatus {
	memory := resource.MustParse("4Gi")
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int64
		if _, err := fmt.Sscanf(string(b), "MemTotal: %d kB", &kb); err == nil {
			memory = *resource.NewQuantity(kb<<10, resource.BinarySI)
		}
	}
	all := v1.ResourceList{
		v1.ResourceCPU:    *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		v1.ResourceMemory: memory,
		v1.ResourcePods:   *resource.NewQuantity(maxPods, resource.DecimalSI),
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	now := metav1.Now()
	s := v1.NodeStatus{
		Capacity: all, Allocatable: all,
		Addresses: []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: n.cfg.Address}, {Type: v1.NodeHostName, Address: n.cfg.Name}},
		NodeInfo: v1.NodeSystemInfo{
			KubeletVersion: version.Get().GitVersion, OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH,
			OSImage: "processes of this machine", ContainerRuntimeVersion: "ebb://" + strings.ReplaceAll(n.iso.String(), " ", "-"),
			KernelVersion: strings.TrimSpace(string(kernel)),
		},
	}
	if a, ok := n.api.Addr().(*net.TCPAddr); ok {
		s.DaemonEndpoints.KubeletEndpoint.Port = int32(a.Port) //nolint:gosec // a port
	}
	ready := v1.NodeCondition{Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "Running", Message: "pods are processes of this machine; isolation: " + n.iso.String()}
	if n.noLimits != "" {
		ready.Message += "; limits are not enforced: " + n.noLimits
	}
	s.Conditions = append(read(n.cfg.Data).conditions(), ready)
	for i := range s.Conditions {
		c := &s.Conditions[i]
		c.LastHeartbeatTime, c.LastTransitionTime = now, now
		for _, o := range old.Conditions {
			if o.Type == c.Type && o.Status == c.Status {
				c.LastTransitionTime = o.LastTransitionTime
			}
		}
	}
	return s
}

func (n *Node) renew(ctx context.Context) error {
	leases := n.client.CoordinationV1().Leases(leaseNames)
	now := metav1.NowMicro()
	l, err := leases.Get(ctx, n.cfg.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordination.Lease{ObjectMeta: metav1.ObjectMeta{Name: n.cfg.Name}, Spec: coordination.LeaseSpec{
			HolderIdentity: ptr.To(n.cfg.Name), LeaseDurationSeconds: ptr.To[int32](leaseSeconds), RenewTime: &now}}, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	l.Spec.HolderIdentity, l.Spec.RenewTime = ptr.To(n.cfg.Name), &now
	_, err = leases.Update(ctx, l, metav1.UpdateOptions{})
	return err
}
