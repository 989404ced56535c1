"""The `.dcz` file, in NumPy alone: `specs/container.md` in code.

container             a network to bytes and back; one leaf of a file
reader, writer        what is in a file, piece by piece; `source`: where it comes from
  file_header           everything in front of the bodies, and its checksum: `records`
    tree_header           keys and containers (`structures`)
    leaf_header           dtype, shape and coding of a leaf; `parts` of a large one
    codebook_header       entries of a codebook (`byte_codebooks`: of one-byte dtypes)
    metadata              strings for people and programs
  leaf_encoding         values or labels of a leaf to bodies; `few_values` get labels
  leaf_reading          bodies of a leaf to values or labels, which `leaf_body` decodes
    planes                values without loss, by bytes; `plane_words` regroups their
                          bits, `plane_heads` says which bytes are coded
    scales                exponents of rows and columns
memory_limit          what decoding may take
sets                  networks in several files; `lazy_leaf`: leaves not yet decoded
fields, dtypes        bytes and strings of the header; values as bytes
files                 writing a file whole or not at all
"""
