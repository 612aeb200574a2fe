package main

import (
	"fmt"

	"ebb.dev/ebb/test/bench/figures"
)

// targets are what is aimed at.
var targets = []figures.Target{
	{Key: "cold_start.over_floor_ms.p50", Bound: 30},
	{Key: "cold_start.over_floor_ms.p50.*", Bound: 30},
	{Key: "warm.p50_ratio", Bound: 1.05},
	{Key: "warm.p99_ratio", Bound: 1.05},
	{Key: "throughput.ratio", Least: true, Bound: 0.9},
	{Key: "split.p99_ms.*", Bound: 25},
	{Key: "create.190_ready_s", Bound: 8},
	{Key: "burst.errors", Bound: 0},
	{Key: "burst.limited.errors", Bound: 0},
	{Key: "memory.platform_mb.500", Bound: 150, Under: true},
	{Key: "memory.platform_rss_mb.500", Bound: 150, Under: true},
	{Key: "memory.platform_mb.10000", Bound: 1024, Under: true},
	{Key: "memory.platform_rss_mb.10000", Bound: 1024, Under: true},
	{Key: "lost.total", Bound: 0},
}

// charts compare what belongs together.
func charts(sizes []int) []figures.Chart {
	all := []figures.Chart{
		{Title: "first request at zero, p50", Rows: []figures.Row{
			{Label: "Ebb", Key: "cold_start.p50"}, {Label: "plain Deployment", Key: "cold_start.floor_ms.p50"}, {Label: "over it, by pair", Key: "cold_start.over_floor_ms.p50"}}},
		{Title: "one warm request, p50", Rows: []figures.Row{
			{Label: "pod", Key: "warm.pod_ms.p50"}, {Label: "bare Envoy", Key: "warm.envoy_ms.p50"}, {Label: "gateway", Key: "warm.gateway_ms.p50"}, {Label: "by way of an activator", Key: "warm.activator_ms.p50"}}},
		{Title: "requests a second, 50 connections", Rows: []figures.Row{
			{Label: "pod", Key: "throughput.pod_rps"}, {Label: "bare Envoy", Key: "throughput.envoy_rps"}, {Label: "gateway", Key: "throughput.gateway_rps"}, {Label: "by way of an activator", Key: "throughput.activator_rps"}}},
	}
	split := figures.Chart{Title: "split change, p50, by Services and gateways"}
	plane := figures.Chart{Title: "split change without an API server, p50, by Routes"}
	memory := figures.Chart{Title: "platform and gateway, resident, by Services"}
	for _, n := range append([]int{0, few, 500}, sizes...) {
		split.Rows = append(split.Rows,
			figures.Row{Label: fmt.Sprintf("%d, one gateway", n), Key: fmt.Sprintf("split.p50_ms.%d", n)},
			figures.Row{Label: fmt.Sprintf("%d, 20 gateways", n), Key: fmt.Sprintf("split.gateways_20.p50_ms.%d", n)})
		memory.Rows = append(memory.Rows, figures.Row{Label: fmt.Sprint(n), Key: fmt.Sprintf("memory.platform_mb.%d", n)})
	}
	for _, n := range planeSizes {
		plane.Rows = append(plane.Rows, figures.Row{Label: fmt.Sprint(n), Key: fmt.Sprintf("plane.split.p50_ms.%d", n)})
	}
	return append(all, split, plane, memory)
}
