"""Pictures for people: import the module that you need (only some of them need matplotlib).

`overlay` draws poses on images, `plot3d` in space, `reliability` errors against uncertainties,
`curves` training logs; `palette` holds the colours.
"""
