//go:build tools

// An S3-compatible server over a folder, for the tests of sinks. scripts/test-servers builds it.
package tools

import _ "github.com/versity/versitygw/cmd/versitygw"
