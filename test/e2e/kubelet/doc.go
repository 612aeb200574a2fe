// Package kubelet tests what only a real kubelet, containerd and scheduler do to a Service's
// pods: restarts of the kubelet, drains, evictions, kills for memory, many pods at once, volumes
// that the cluster has. `make test-cluster` runs it on a node of test/cluster; elsewhere its tests
// are skipped and say so. They run one after the other: most of them disturb the whole node.
package kubelet
