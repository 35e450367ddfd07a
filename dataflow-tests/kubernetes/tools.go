//go:build tools

// Package tools names the programs that scripts/kubernetes builds, so that go.mod and go.sum hold what they need.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
)
