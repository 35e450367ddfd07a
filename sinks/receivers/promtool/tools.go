//go:build tools

// Package tools names the program that scripts/test-servers builds, so that go.mod and go.sum hold what it needs.
package tools

import (
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
