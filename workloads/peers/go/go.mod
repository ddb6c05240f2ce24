module gearbox-peer

go 1.19
