module igdd

go 1.26.0

toolchain go1.26.8

require (
	github.com/coreos/go-iptables v0.8.0
	github.com/joho/godotenv v1.5.1
	golang.org/x/sync v0.25.0
	golang.org/x/sys v0.50.0
)
