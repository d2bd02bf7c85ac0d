"""WebShop (Yao et al. 2022, arXiv 2207.01206): an online shop to search, choose and buy in.

`shop` holds the rules, `reward` and `goals` what a purchase is worth, `products` what is sold; pictures, prompts and
web pages are views of them. `vldac envs shop` opens the shop for people.
"""

from envs.webshop.env import WebShop

__all__ = ["WebShop"]
